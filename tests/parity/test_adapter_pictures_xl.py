"""Adapters of SDXL, whose two text encoders have their own, change pictures as they change diffusers'."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import sfumato
from sfumato.errors import AdapterError

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")

Folders = Callable[[str], Path]
RUN = {"prompt": "a red apple", "num_inference_steps": 2, "output_type": "np", "negative_prompt": "blur"}


@pytest.fixture
def pipes(family_folders: Folders) -> tuple[Any, Any]:
    theirs = diffusers.StableDiffusionXLPipeline.from_pretrained(family_folders("sdxl"))
    ours = sfumato.StableDiffusionXLPipeline.from_pretrained(family_folders("sdxl"))
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    return theirs, ours


def picture(pipe: Any, **options: Any) -> np.ndarray:
    return pipe(**(RUN | options), generator=torch.Generator().manual_seed(3)).images


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The projections of a network's attention, by their names in diffusers."""
    ends = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(ends):
            yield name, module


def kohya(pipe: Any, encoders: tuple[str, ...] = ("te1", "te2")) -> dict[str, Tensor]:
    """A LoRA as kohya's scripts name one of SDXL."""
    g, tensors = torch.Generator().manual_seed(1), dict[str, Tensor]()
    networks = {"unet": pipe.unet, "te1": pipe.text_encoder, "te2": pipe.text_encoder_2}
    for short in ("unet", *encoders):
        # transformers 5 leaves out what these scripts, of their time, have in every name.
        prefix = "text_model_" if short != "unet" and not hasattr(networks[short], "text_model") else ""
        for name, layer in layers(networks[short]):
            key = f"lora_{short}_{prefix}{name.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = torch.randn(4, layer.in_features, generator=g) * 0.4
            tensors[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, 4, generator=g) * 0.4
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    return tensors


def test_a_lora_changes_both_text_encoders(pipes: Any, tmp_path: Path) -> None:
    theirs, ours = pipes
    plain = picture(ours)
    save_file(kohya(theirs), tmp_path / "lora.safetensors")
    theirs.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="a")
    report = ours.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="a")
    assert report.unmatched == ()
    assert report.matched.keys() == {"unet", "text_encoder", "text_encoder_2"}
    expected = picture(theirs)
    assert np.abs(expected - plain).mean() * 255 > 2
    assert_same(picture(ours), expected)
    drawn = [expected]
    for weights in ({"unet": 0.0, "text_encoder": 1.0, "text_encoder_2": 0.0}, {"unet": 0.5, "text_encoder": 0.0, "text_encoder_2": -1.0}):  # fmt: skip
        for pipe in pipes:
            pipe.set_adapters("a", weights)
        drawn.append(picture(theirs))
        assert_same(picture(ours), drawn[-1])
    assert all(np.abs(one - plain).max() * 255 > 3 for one in drawn), "each encoder's own part shows"

    ours.set_adapters("a")
    beside = picture(ours)
    result = ours(**RUN | {"output_type": "pil"}, seeds=[3])
    ours.fuse_lora()
    np.testing.assert_allclose(picture(ours), beside, atol=2e-3)
    assert ours.replay(result.recipes[0]).identical, "a replay takes out what is merged, and puts it back"
    ours.unfuse_lora()
    assert np.array_equal(picture(ours), beside)
    ours.unload_lora_weights()
    assert np.array_equal(picture(ours), plain)


def test_the_refiner_refuses_what_is_for_two_text_encoders(family_folders: Folders, pipes: Any) -> None:
    refiner = sfumato.StableDiffusionXLPipeline.from_pretrained(family_folders("sdxl-refiner"))
    with pytest.raises(AdapterError):
        refiner.load_lora_weights(kohya(pipes[0]))


PAIRS = {"clip_l": ("text_encoder", 64), "clip_g": ("text_encoder_2", 128)}


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_pair_of_embeddings_changes_the_picture(pipes: Any, tmp_path: Path, vectors: int) -> None:
    theirs, ours = pipes
    g = torch.Generator().manual_seed(1)
    pair = {key: torch.randn(vectors, width, generator=g) for key, (_, width) in PAIRS.items()}
    save_file(pair, tmp_path / "zorp.safetensors")
    plain = picture(ours, prompt="a <zorp> cat")
    assert ours.load_textual_inversion(tmp_path / "zorp.safetensors", token="<zorp>") == ["<zorp>"]
    for key, (encoder, _) in PAIRS.items():
        tokenizer = getattr(theirs, encoder.replace("text_encoder", "tokenizer"))
        theirs.load_textual_inversion(
            pair[key], token="<zorp>", text_encoder=getattr(theirs, encoder), tokenizer=tokenizer
        )
    for prompts in ({"prompt": "a <zorp> cat"}, {"prompt_2": "<zorp>"}, {"negative_prompt": "<zorp>"}):
        assert_same(picture(ours, **prompts), picture(theirs, **prompts))
    assert not np.array_equal(picture(ours, prompt="a <zorp> cat"), plain)

    # Where the second prompt alone names it, the recipe does too.
    recipe = ours(**RUN | {"output_type": "pil", "prompt_2": "<zorp>"}, seeds=[3]).recipes[0]
    assert [used.token for used in recipe.adapters] == ["<zorp>"]
    assert ours.replay(recipe).identical
    ours.unload_textual_inversion()
    assert np.array_equal(picture(ours, prompt="a <zorp> cat"), plain)


def test_a_pair_is_loaded_for_one_encoder_after_the_other_as_notebooks_do(pipes: Any, tmp_path: Path) -> None:
    theirs, ours = pipes
    g = torch.Generator().manual_seed(2)
    pair = {key: torch.randn(2, width, generator=g) for key, (_, width) in PAIRS.items()}
    plain = picture(ours, prompt="a <zorp> cat")
    for pipe in pipes:
        for key, (encoder, _) in PAIRS.items():
            tokenizer = getattr(pipe, encoder.replace("text_encoder", "tokenizer"))
            pipe.load_textual_inversion(
                pair[key], token="<zorp>", text_encoder=getattr(pipe, encoder), tokenizer=tokenizer
            )
    drawn = picture(ours, prompt="a <zorp> cat")
    assert_same(drawn, picture(theirs, prompt="a <zorp> cat"))
    ours.unload_textual_inversion("<zorp>")
    assert np.array_equal(picture(ours, prompt="a <zorp> cat"), plain)
