"""Models that enlarge a picture: the same tiny model, picture and seed give diffusers' picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from vivid import vivid

import sfumato


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def picture(width: int = 16, height: int = 12, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.02, "a flat reference picture shows nothing"
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def shows(picture: np.ndarray, other: np.ndarray) -> bool:
    return picture.shape != other.shape or bool(np.abs(picture - other).max() * 255 > 10)


def opened(folder: Path, kind: str) -> tuple[Any, Any]:
    pipes = getattr(diffusers, kind).from_pretrained(folder), getattr(sfumato, kind).from_pretrained(folder)
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    return pipes


@pytest.fixture(scope="module")
def four_times(family_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = vivid(family_folders("x4-upscaler"), tmp_path_factory.mktemp("vivid") / "x4")
    return opened(folder, "StableDiffusionUpscalePipeline")


@pytest.fixture(scope="module")
def twice(family_folders: Callable[[str], Path]) -> tuple[Any, Any]:
    return opened(family_folders("x2-latent-upscaler"), "StableDiffusionLatentUpscalePipeline")


FOUR: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "another size, cut": {"image": picture(22, 17)},
    "no guidance, no noise": {"guidance_scale": 1.0, "noise_level": 0},
    "as noisy as it may be": {"noise_level": 39, "negative_prompt": "blur"},
    "two pictures of one": {"num_images_per_prompt": 2},
    "two pictures of two": {"prompt": ["a red apple", "a cat"], "image": [picture(), picture(seed=1)]},
    "a tensor": {"image": torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(1))},
    "embeddings": {"prompt": None, "prompt_embeds": torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(2)),
                   "negative_prompt_embeds": torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(4))},
}  # fmt: skip


@pytest.mark.parametrize("said", FOUR.values(), ids=FOUR.keys())
def test_the_upscaler_enlarges_as_diffusers_does(four_times: tuple[Any, Any], said: dict[str, Any]) -> None:
    theirs, ours = four_times
    run = {"prompt": "a red apple", "image": picture(), "num_inference_steps": 3, "output_type": "np", **said}
    generators = seeded(), seeded()
    expected = theirs(**run, generator=generators[0]).images
    got = ours(**run, generator=generators[1]).images
    assert_same(got, expected)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_the_upscaler_hears_all_that_it_is_told(four_times: tuple[Any, Any]) -> None:
    ours = four_times[1]
    run = {"prompt": "a red apple", "image": picture(), "num_inference_steps": 3, "output_type": "np", "seeds": [1]}
    drawn = ours(**run).images
    for other in ({"image": picture(seed=1)}, {"noise_level": 0}, {"prompt": "a cat"}, {"guidance_scale": 2.0}):
        assert shows(ours(**run | other).images, drawn), other


TWO: dict[str, dict[str, Any]] = {
    "a picture": {},
    "a picture that is cut": {"image": picture(70, 35)},
    "latents": {"image": torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(1))},
    "no prompt read": {"guidance_scale": 0.0},
    "no guidance": {"guidance_scale": 1.0},
    "two": {"prompt": ["a red apple", "a cat"], "image": [picture(32, 48), picture(32, 48, 1)], "negative_prompt": ["", "x"]},
}  # fmt: skip


@pytest.mark.parametrize("said", TWO.values(), ids=TWO.keys())
def test_the_latent_upscaler_enlarges_as_diffusers_does(twice: tuple[Any, Any], said: dict[str, Any]) -> None:
    theirs, ours = twice
    run = {
        "prompt": "a red apple",
        "image": picture(32, 32),
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "output_type": "np",
    }
    run |= said
    generators = seeded(), seeded()
    expected = theirs(**run, generator=generators[0]).images
    got = ours(**run, generator=generators[1]).images
    assert_same(got, expected)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_the_latent_upscaler_hears_all_that_it_is_told(twice: tuple[Any, Any]) -> None:
    ours = twice[1]
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    run = {
        "prompt": "a red apple",
        "image": latents,
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "output_type": "np",
        "seeds": [1],
    }
    drawn = ours(**run).images
    for other in ({"image": -latents}, {"prompt": "a cat"}, {"guidance_scale": 1.0}, {"negative_prompt": "blur"}):
        assert shows(ours(**run | other).images, drawn), other


def test_the_latent_upscaler_reads_the_embeddings_that_diffusers_makes(twice: tuple[Any, Any]) -> None:
    theirs, ours = twice
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    expected = theirs.encode_prompt("a fox", "cpu", True, "blur")
    got = ours.encode_prompt("a fox", "cpu", True, "blur")
    for mine, its in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)
    given: dict[str, Any] = dict(zip(names, expected, strict=True))
    run = {"image": picture(32, 32), "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np"}
    assert_same(ours(**run, **given, generator=seeded()).images, theirs(**run, **given, generator=seeded()).images)
    assert ours.encode_prompt("a fox", do_classifier_free_guidance=False)[1::2] == (None, None)


def test_the_latent_upscaler_between_timesteps(twice: tuple[Any, Any]) -> None:
    """Its network is told sigma and no timestep, so that any level will do. diffusers' Euler alone takes what it answers."""
    theirs, ours = twice
    own = theirs.scheduler, ours.scheduler
    run = {
        "prompt": "a fox",
        "image": picture(32, 32),
        "num_inference_steps": 6,
        "guidance_scale": 2.0,
        "output_type": "np",
    }
    drawn = ours(**run, generator=seeded()).images
    try:
        for library, pipe in ((diffusers, theirs), (sfumato, ours)):
            pipe.scheduler = library.EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
        got = ours(**run, generator=seeded()).images
        assert_same(got, theirs(**run, generator=seeded()).images)
        assert shows(got, drawn)
    finally:
        theirs.scheduler, ours.scheduler = own
