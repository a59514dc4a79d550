"""Configs as well-known repositories of different ages have them, read by us as diffusers and transformers read them.

Each file of `configs/` holds what one kind of repository has in its folders. They are written from memory of their shape, so that every
option that releases from 0.2 on wrote is met; no weights belong to them.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, UNET, VAE, Component
from sfumato.pipeline.safety import Preparation
from sfumato.schedulers import SCHEDULERS, UnavailableScheduler, scheduler_from_config

# The reference's own: torch tensors in numpy functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

MODELS = {
    path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "configs").glob("*.json"))
}


def those_with(part: str) -> list[str]:
    return [name for name in MODELS if part in MODELS[name]]


def assert_same_options(config: Any, reference: Any) -> None:
    theirs = {key: value for key, value in reference.config.items() if not key.startswith("_") and value != -np.inf}
    for retired in ("tensor_format", "timestep_values", "predict_epsilon", "denoise_final"):
        theirs.pop(retired, None)
    if (
        theirs.get("solver_type") == "midpoint"
    ):  # which is how diffusers and we read those of other classes; it writes it down
        config = {**config, "solver_type": "midpoint"}
    assert {key: config[key] for key in theirs} == theirs


@pytest.mark.parametrize("name", those_with("scheduler"))
def test_schedulers(name: str, caplog: pytest.LogCaptureFixture) -> None:
    values = MODELS[name]["scheduler"]
    mine, theirs = scheduler_from_config(values), getattr(diffusers, values["_class_name"]).from_config(values)
    assert not [record for record in caplog.records if record.name == "sfumato"]
    assert not isinstance(mine, UnavailableScheduler)
    assert_same_options(mine.config, theirs)
    assert torch.equal(mine.noise_schedule.alphas_cumprod, theirs.alphas_cumprod)
    # What notebooks do after opening, whatever the model's own is.
    for other in SCHEDULERS:
        swapped = SCHEDULERS[other].from_config(mine.config)
        assert replace(swapped.noise_schedule, in_float64=False) == mine.noise_schedule
        if getattr(swapped, "skip_prk_steps", True):
            assert SCHEDULERS[other].from_config(mine.in_pipeline().config).levels(20).steps == 20
        if not hasattr(diffusers, other):
            continue
        try:
            expected = getattr(diffusers, other).from_config(theirs.config)
        except (ValueError, NotImplementedError):
            continue  # words for algorithms that its classes refuse from each other; ours read them
        assert_same_options(swapped.config, expected)


def assert_same_shapes(component: Component[Any, Any], config: Any, theirs: torch.nn.Module) -> None:
    with torch.device("meta"):
        network = component.build(config)
    keys = component.keys(config)
    found = {keys.to_theirs(name): tensor.shape for name, tensor in network.state_dict().items()}
    assert found == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


@pytest.mark.parametrize("name", those_with("unet"))
def test_unets(name: str) -> None:
    values = MODELS[name]["unet"]
    config = UNET.read_config(values, "config")
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel.from_config(values)
    assert_same_shapes(UNET, config, theirs)
    heads = tuple(block.attentions[0].transformer_blocks[0].attn1.heads for block in theirs.down_blocks[:3])
    assert config.heads[:3] == heads
    assert config.sample_size == theirs.config.sample_size


@pytest.mark.parametrize("name", those_with("vae"))
def test_autoencoders(name: str) -> None:
    values = MODELS[name]["vae"]
    config = VAE.read_config(values, "config")
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL.from_config(values)
    assert_same_shapes(VAE, config, theirs)
    assert (config.scaling_factor, config.sample_size) == (theirs.config.scaling_factor, theirs.config.sample_size)


def transformer(config: Any) -> tuple[Any, ...]:
    return (config.width, config.layers, config.heads, config.mlp_width, config.activation, config.norm_eps)


def transformer_of(config: Any) -> tuple[Any, ...]:
    sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    return (*sizes, config.hidden_act, config.layer_norm_eps)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("name", those_with("text_encoder"))
def test_text_encoders(name: str, within: bool, tmp_path: Path) -> None:
    values = MODELS[name]["text_encoder"]
    if within:
        values = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 768, "text_config": values}
    (tmp_path / "config.json").write_text(json.dumps(values))
    theirs = transformers.CLIPTextConfig.from_pretrained(tmp_path)
    config = TEXT_ENCODER.read_config(values, "config")
    assert transformer(config) == transformer_of(theirs)
    expected = (theirs.vocab_size, theirs.max_position_embeddings, theirs.eos_token_id)
    assert (config.vocab_size, config.max_length, config.eos_token_id) == expected


@pytest.mark.parametrize("name", those_with("safety_checker"))
def test_safety_checkers(name: str) -> None:
    values = MODELS[name]["safety_checker"]
    config, theirs = SAFETY_CHECKER.read_config(values, "config"), transformers.CLIPConfig.from_dict(values)
    assert config.projection_dim == theirs.projection_dim
    assert transformer(config.vision) == transformer_of(theirs.vision_config)
    vision = theirs.vision_config
    assert (config.vision.image_size, config.vision.patch_size) == (vision.image_size, vision.patch_size)


@pytest.mark.parametrize("name", those_with("feature_extractor"))
def test_preparations(name: str) -> None:
    values = MODELS[name]["feature_extractor"]
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    theirs = transformers.CLIPImageProcessor.from_dict(values)(Image.fromarray(picture), return_tensors="pt")
    np.testing.assert_allclose(Preparation.from_config(values)(picture), theirs.pixel_values[0].numpy(), atol=0.02)
