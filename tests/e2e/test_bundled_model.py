"""The model in the package draws what it is asked, and diffusers draws the same with it."""

import json

import diffusers
import numpy as np
import pytest
import torch

import sfumato
from sfumato import StableDiffusionPipeline, bundled_model

SIZE_LIMIT = 60_000_000
pytestmark = pytest.mark.usefixtures("as_shipped")


@pytest.fixture(scope="module")
def pipe(as_shipped):
    pipe = StableDiffusionPipeline.from_pretrained(bundled_model(), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe, prompt: str, seed: int = 0) -> np.ndarray:
    """One picture, `h w 3` in [0, 1], in fewer steps than the model recommends."""
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, num_inference_steps=6, generator=generator, output_type="np").images[0]


def test_it_is_small_and_says_what_it_draws():
    folder = bundled_model()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= SIZE_LIMIT
    settings = json.loads((folder / "sfumato.json").read_text())
    names = (folder / settings["vocabulary"]).read_text().splitlines()
    assert len(names) >= 1600
    assert {"cat face", "pizza", "red apple", "rocket"} <= set(names)
    assert set(settings["styles"]) >= {"3d", "flat", "glossy", "noto", "twemoji"}


def test_the_pictures_have_the_models_own_size_on_a_white_ground(pipe):
    settings = json.loads((bundled_model() / "sfumato.json").read_text())
    for prompt in ("a red apple, 3d style", "rocket"):
        picture = drawn(pipe, prompt)
        assert picture.shape == (settings["height"], settings["width"], 3)
        edges = np.concatenate([picture[:2], picture[-2:]])
        assert edges.mean() > 0.97, "the ground is not white"
        assert picture.min() < 0.6, "there is nothing on the ground"


# Where most of what is not ground must lie: (r, g, b) in order from strongest to weakest, by hue alone.
COLOURS = {
    "a red apple, 3d style": "r",
    "green apple": "g",
    "blue heart": "b",
    "red heart, flat style": "r",
    "strawberry": "r",
    "frog face": "g",
    "a water drop": "b",
    "tomato": "r",
}


def strongest_channel(picture: np.ndarray) -> str:
    """The channel that leads, by weight of saturation, over the picture."""
    saturation = picture.max(-1) - picture.min(-1)
    weights = np.array([((picture.argmax(-1) == channel) * saturation).sum() for channel in range(3)])
    return "rgb"[weights.argmax()]


def test_things_have_their_colours(pipe):
    right = [prompt for prompt, colour in COLOURS.items() if strongest_channel(drawn(pipe, prompt)) == colour]
    assert len(right) >= len(COLOURS) - 1, f"only {right} have their colours"


def test_the_prompt_decides_more_than_the_seed(pipe):
    prompts = ("a red apple, 3d style", "rocket", "cat face", "blue heart", "pizza", "octopus")
    pictures = np.array([[drawn(pipe, prompt, seed) for seed in (0, 1)] for prompt in prompts])
    nearest = [
        min(range(len(prompts)), key=lambda other: np.square(pictures[i, 1] - pictures[other, 0]).mean())
        for i in range(len(prompts))
    ]
    # A pizza has no one way of lying.
    assert sum(near == own for own, near in enumerate(nearest)) >= len(prompts) - 1


# What diffusers' classes need to be told to suit latents: DDIM not to clip them to [-1, 1], PNDM to start without Runge-Kutta steps.
OPTIONS = {
    "DPMSolverMultistepScheduler": {},
    "DDIMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {},
}


def test_diffusers_draws_with_it_as_it_lies():
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe.set_progress_bar_config(disable=True)
    assert np.asarray(pipe("a red apple, 3d style", num_inference_steps=2).images[0]).std() > 10


@pytest.mark.parametrize("scheduler", OPTIONS)
def test_diffusers_draws_the_same(scheduler):
    pictures = []
    for library in (diffusers, sfumato):
        pipe = library.StableDiffusionPipeline.from_pretrained(
            bundled_model(), torch_dtype=torch.float32, safety_checker=None
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = getattr(library, scheduler).from_config(pipe.scheduler.config, **OPTIONS[scheduler])
        pictures.append(
            pipe(
                "a red apple, 3d style",
                num_inference_steps=12,
                guidance_scale=3.0,
                height=64,
                width=64,
                generator=torch.Generator().manual_seed(7),
                output_type="np",
            ).images[0]
        )
    difference = np.abs(pictures[0] - pictures[1]) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3
