"""Whole pictures with rescaled guidance, perturbed attention and FreeU: the same as diffusers'."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from vivid import vivid

import sfumato

RUN: dict[str, Any] = {"prompt": ["a red apple", "two cats"], "num_inference_steps": 5, "output_type": "np"}
PREDICTIONS = ["epsilon", "v_prediction"]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose self-attentions are heard."""
    from safetensors.torch import load_file, save_file

    into = vivid(tiny_folder, tmp_path_factory.mktemp("guided") / "model")
    path = into / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for name in weights:
        if name.endswith(("attn1.to_out.0.weight", "attn1.to_v.weight")):
            weights[name] = weights[name] * 6
    save_file(weights, path, {"format": "pt"})
    return into


def opened(kind: Any, folder: Path, prediction: str, **options: Any) -> Any:
    pipe = kind.from_pretrained(folder, safety_checker=None, **options)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=prediction)
    return pipe


def assert_same(mine: Any, theirs: Any, **options: Any) -> np.ndarray:
    expected = theirs(**RUN, **options, generator=torch.Generator().manual_seed(3)).images
    got = mine(**RUN, **options, generator=torch.Generator().manual_seed(3)).images
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3
    return expected


def assert_shows(picture: np.ndarray, plain: np.ndarray) -> None:
    """That the option is seen, so that equal pictures say something."""
    assert np.abs(picture - plain).max() * 255 > 8


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_rescaled_guidance(folder: Path, prediction: str) -> None:
    mine, theirs = (opened(each.StableDiffusionPipeline, folder, prediction) for each in (sfumato, diffusers))
    plain = assert_same(mine, theirs)
    assert_shows(assert_same(mine, theirs, guidance_rescale=0.7), plain)
    assert_same(mine, theirs, guidance_rescale=0.7, guidance_scale=1.0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("layers", ["mid", ["down_blocks.0", "up_blocks.1.attentions.0"]])
def test_perturbed_attention(folder: Path, layers: Any, prediction: str) -> None:
    mine, theirs = (
        opened(each.StableDiffusionPAGPipeline, folder, prediction, pag_applied_layers=layers)
        for each in (sfumato, diffusers)
    )
    plain = assert_same(mine, theirs, pag_scale=0.0)
    assert_shows(assert_same(mine, theirs), plain)
    for options in (
        {"pag_scale": 9.0, "guidance_scale": 1.0},
        {"pag_scale": 9.0, "pag_adaptive_scale": 0.02},
        {"pag_scale": 9.0, "guidance_rescale": 0.7},
    ):
        assert_shows(assert_same(mine, theirs, **options), plain)


def test_image_to_image_with_perturbed_attention(folder: Path) -> None:
    mine, theirs = (opened(each.StableDiffusionPAGImg2ImgPipeline, folder, "epsilon") for each in (sfumato, diffusers))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    options = {"image": image, "strength": 0.8, "pag_scale": 9.0}
    plain = assert_same(mine, theirs, **options | {"pag_scale": 0.0})
    assert_shows(assert_same(mine, theirs, **options), plain)


def test_the_names_of_a_call_s_guidance_are_diffusers(folder: Path) -> None:
    mine, theirs = (opened(each.StableDiffusionPAGPipeline, folder, "epsilon") for each in (sfumato, diffusers))
    for pipe in (mine, theirs):
        pipe("a fox", num_inference_steps=1, pag_scale=2.0, pag_adaptive_scale=0.001, guidance_rescale=0.3)
    for name in (
        "pag_scale", "pag_adaptive_scale", "do_perturbed_attention_guidance", "pag_applied_layers", "guidance_rescale",
        "guidance_scale",
    ):  # fmt: skip
        assert getattr(mine, name) == getattr(theirs, name)


def test_freeu(folder: Path) -> None:
    mine, theirs = (opened(each.StableDiffusionPipeline, folder, "epsilon") for each in (sfumato, diffusers))
    plain = assert_same(mine, theirs)
    for pipe in (mine, theirs):
        pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert_shows(assert_same(mine, theirs), plain)
    for pipe in (mine, theirs):
        pipe.disable_freeu()
    assert np.array_equal(assert_same(mine, theirs), plain)
