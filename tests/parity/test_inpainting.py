"""Parts of pictures painted anew: by any model and by those made for it, diffusers' picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from vivid import vivid

import sfumato


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int = 64, height: int = 64) -> Image.Image:
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).ellipse((width // 5, height // 4, width * 3 // 5, height * 3 // 4), fill=255)
    return drawn


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.02, "a flat reference picture shows nothing"
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def opened(folder: Path, kind: str) -> tuple[Any, Any]:
    pipes = getattr(diffusers, kind).from_pretrained(folder), getattr(sfumato, kind).from_pretrained(folder)
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    return pipes


def swap(pipes: tuple[Any, Any], name: str) -> None:
    for library, pipe in zip((diffusers, sfumato), pipes, strict=True):
        own = {"clip_sample": False} if name == "DDIMScheduler" else {}
        pipe.scheduler = getattr(library, name).from_config(pipe.scheduler.config, **own)


@pytest.fixture(scope="module")
def any_model(tiny_folder: Path) -> tuple[Any, Any]:
    return opened(tiny_folder, "StableDiffusionInpaintPipeline")


@pytest.fixture(scope="module")
def made_for_it(family_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = vivid(family_folders("sd1-inpaint"), tmp_path_factory.mktemp("vivid") / "inpaint")
    return opened(folder, "StableDiffusionInpaintPipeline")


# diffusers lays the mask on PLMS's and Heun's half steps too, so their pictures are not the same for models of every kind.
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize(
    "name",
    ["DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"],
)
def test_any_model_paints_diffusers_picture(any_model: tuple[Any, Any], name: str, strength: float) -> None:
    swap(any_model, name)
    theirs, ours = any_model
    run = {
        "prompt": "a red apple", "image": picture(), "mask_image": mask(), "height": 64, "width": 64, "strength": strength,
        "num_inference_steps": 5, "output_type": "np",
    }  # fmt: skip
    generators = seeded(), seeded()
    expected = theirs(**run, generator=generators[0]).images
    assert_same(ours(**run, generator=generators[1]).images, expected)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize(("name", "strength"), [("PNDMScheduler", 1.0), ("PNDMScheduler", 0.6), ("DDIMScheduler", 0.6)])
def test_models_made_for_it_paint_diffusers_picture(made_for_it: tuple[Any, Any], name: str, strength: float) -> None:
    swap(made_for_it, name)
    theirs, ours = made_for_it
    run = {
        "image": picture(80, 70),
        "mask_image": mask(80, 70),
        "strength": strength,
        "num_inference_steps": 4,
        "output_type": "np",
    }
    run |= {"prompt": ["a red apple", "a cat"], "height": 64, "width": 64}
    expected = theirs(**run, generator=seeded()).images
    got = ours(**run, generator=seeded()).images
    assert_same(got, expected)
    other = ours(**run | {"mask_image": Image.new("L", (80, 70), 255)}, generator=seeded()).images
    assert np.abs(got - other).max() * 255 > 10, "the model reads the mask"


def test_only_what_is_masked_is_painted_at_the_full_size(any_model: tuple[Any, Any]) -> None:
    swap(any_model, "EulerDiscreteScheduler")
    theirs, ours = any_model
    run = {
        "prompt": "a fox", "image": picture(200, 160), "mask_image": mask(200, 160), "padding_mask_crop": 8,
        "height": 64, "width": 64, "num_inference_steps": 3,
    }  # fmt: skip
    expected = np.asarray(theirs(**run, generator=seeded()).images[0], dtype=float)
    got = np.asarray(ours(**run, generator=seeded()).images[0], dtype=float)
    assert_same(got / 255, expected / 255)
    outside = np.asarray(mask(200, 160)) == 0
    assert np.array_equal(got[outside], np.asarray(picture(200, 160), dtype=float)[outside])


def test_instructions_and_depth(family_folders: Callable[[str], Path], tmp_path: Path) -> None:
    theirs = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        vivid(family_folders("instruct-pix2pix"), tmp_path / "a")
    )
    ours = sfumato.StableDiffusionPipeline.from_pretrained(tmp_path / "a")
    theirs.set_progress_bar_config(disable=True)
    ours.set_progress_bar_config(disable=True)
    for scales in ((7.0, 1.5), (4.0, 3.0), (7.0, 0.5)):
        run = {"prompt": "make it red", "image": picture(), "num_inference_steps": 3, "output_type": "np"}
        run |= {"guidance_scale": scales[0], "image_guidance_scale": scales[1]}
        assert_same(ours(**run, generator=seeded()).images, theirs(**run, generator=seeded()).images)

    theirs = diffusers.StableDiffusionDepth2ImgPipeline.from_pretrained(
        vivid(family_folders("sd2-depth"), tmp_path / "b")
    )
    ours = sfumato.StableDiffusionPipeline.from_pretrained(tmp_path / "b")
    theirs.set_progress_bar_config(disable=True)
    ours.set_progress_bar_config(disable=True)
    near = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))
    run = {
        "prompt": "a red apple",
        "image": picture(),
        "depth_map": near,
        "num_inference_steps": 4,
        "output_type": "np",
    }
    got = ours(**run, strength=0.7, generator=seeded()).images
    assert_same(got, theirs(**run, strength=0.7, generator=seeded()).images)
