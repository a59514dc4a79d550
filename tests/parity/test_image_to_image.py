"""Whole pictures from pictures: the same model, picture, seed and settings give diffusers' picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import OptionError, UsageError

# diffusers' LMS is left out: begun in the middle, it weighs slopes that it has not seen.
SCHEDULERS = {
    "PNDMScheduler": {}, "DDIMScheduler": {"eta": 0.4}, "EulerDiscreteScheduler": {}, "EulerAncestralDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {}, "HeunDiscreteScheduler": {}, "DDPMScheduler": {}, "UniPCMultistepScheduler": {},
    "DEISMultistepScheduler": {}, "DPMSolverSinglestepScheduler": {}, "SASolverScheduler": {},
    "TCDScheduler": {"eta": 0.3}, "LCMScheduler": {},
}  # fmt: skip


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    """A picture of smooth colours, of which no two parts are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.02, "a flat reference picture shows nothing"
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


@pytest.fixture(scope="module")
def both(tiny_folder: Path) -> tuple[Any, Any]:
    theirs = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(tiny_folder, safety_checker=None)
    ours = sfumato.StableDiffusionImg2ImgPipeline.from_pretrained(tiny_folder, safety_checker=None)
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    return theirs, ours


def swap(pipes: tuple[Any, Any], name: str, **options: Any) -> None:
    for library, pipe in zip((diffusers, sfumato), pipes, strict=True):
        own = {"clip_sample": False} if name in ("DDIMScheduler", "DDPMScheduler") else {}
        if (
            library is sfumato
        ):  # its class of diffusers has linspace alone, and configs go from one scheduler to the next
            single = name == "DPMSolverSinglestepScheduler"
            own |= {"timestep_spacing": "linspace" if single else "leading", "steps_offset": 0 if single else 1}
        pipe.scheduler = getattr(library, name).from_config(pipe.scheduler.config, **{**own, **options})


@pytest.mark.parametrize("strength", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_pictures_equal_diffusers(both: tuple[Any, Any], name: str, strength: float) -> None:
    swap(both, name)
    theirs, ours = both
    run = {
        "prompt": "a red apple", "image": picture(), "strength": strength, "num_inference_steps": 7, "output_type": "np",
        **SCHEDULERS[name],
    }  # fmt: skip
    generators = seeded(), seeded()
    expected = theirs(**run, generator=generators[0]).images
    assert_same(ours(**run, generator=generators[1]).images, expected)
    assert torch.equal(generators[0].get_state(), generators[1].get_state()), "the caller's generator goes on as there"


@pytest.mark.parametrize("left", [1, 2, 5, 6])
def test_plms_begins_where_diffusers_list_of_timesteps_has_it(both: tuple[Any, Any], left: int) -> None:
    swap(both, "PNDMScheduler")
    run = {
        "prompt": "a fox",
        "image": picture(),
        "strength": (left + 0.5) / 7,
        "num_inference_steps": 7,
        "output_type": "np",
    }
    expected = both[0](**run, generator=seeded()).images
    assert_same(both[1](**run, generator=seeded()).images, expected)


def test_several_pictures_prompts_sizes_and_forms(both: tuple[Any, Any]) -> None:
    swap(both, "EulerDiscreteScheduler")
    theirs, ours = both
    images = [picture(72, 83, 1), picture(72, 83, 2)]
    unit = np.stack([np.asarray(picture(64, 48, seed), dtype=np.float32) / 255 for seed in (1, 2)])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for said in (
        {"prompt": ["a fox", "a house"], "image": images},
        {"prompt": "a fox", "image": images[0], "num_images_per_prompt": 2},
        {"prompt": ["a fox", "a house"], "image": unit},
        {"prompt": "a fox", "image": torch.from_numpy(unit[:1]).permute(0, 3, 1, 2)},
        {"prompt": "a fox", "image": latents},
        {"prompt": ["a fox", "a house"], "image": images, "generator": [5, 6]},
    ):
        seeds = said.pop("generator", None)

        def generator(seeds: Any = seeds) -> Any:
            return seeded() if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]

        run = {"num_inference_steps": 4, "strength": 0.6, "output_type": "np", **said}
        assert_same(ours(**run, generator=generator()).images, theirs(**run, generator=generator()).images)


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
        "UniPCMultistepScheduler", "SASolverScheduler",
    ],
)  # fmt: skip
def test_the_refiner_takes_over_from_the_base(family_folders: Callable[[str], Path], name: str) -> None:
    base = [
        library.StableDiffusionXLPipeline.from_pretrained(family_folders("sdxl")) for library in (diffusers, sfumato)
    ]
    refiner = [
        library.StableDiffusionXLImg2ImgPipeline.from_pretrained(family_folders("sdxl-refiner"))
        for library in (diffusers, sfumato)
    ]
    made: list[list[Any]] = [[], []]
    for pipes in (base, refiner):
        swap((pipes[0], pipes[1]), name)
    for which, (first, second) in enumerate(zip(base, refiner, strict=True)):
        first.set_progress_bar_config(disable=True)
        second.set_progress_bar_config(disable=True)
        run = {"prompt": "a fox", "num_inference_steps": 6}
        begun = first(**run, denoising_end=0.6, output_type="latent", generator=seeded()).images
        made[which].append(second(**run, image=begun, denoising_start=0.6, output_type="np", generator=seeded()).images)
        made[which].append(second(**run, image=picture(), output_type="np", strength=0.5, generator=seeded()).images)
    for got, expected in zip(made[1], made[0], strict=True):
        assert_same(got, expected)


def test_what_can_t_be_is_said(both: tuple[Any, Any]) -> None:
    ours = both[1]
    with pytest.raises(UsageError, match="begins from a picture; pass image="):
        ours("a fox")
    with pytest.raises(OptionError, match=r"strength 0\.1 leaves none of 5 steps"):
        ours("a fox", picture(), 0.1, 5)
    with pytest.raises(OptionError, match="strength must be from 0 to 1"):
        ours("a fox", picture(), 1.1)
    with pytest.raises(OptionError, match="image must be a picture"):
        ours("a fox", "picture.png")
    with pytest.raises(OptionError, match="2 pictures in image for 1 images"):
        ours("a fox", [picture(), picture()])
