"""`compat`: noise, words, schedule and rounding set together, and held in the recipe as what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.diffusion.noise import NoiseSource
from sfumato.errors import OptionError, UnknownNameError
from sfumato.infotext import infotext
from sfumato.pipeline.compat import scheduler_as
from sfumato.pipeline.encoding import Encoder
from sfumato.pipeline.image_to_image import Noises, levels_of, starts
from sfumato.pipeline.upscaling import Enlargement
from sfumato.pipeline.workflow import asked_again
from sfumato.schedulers import EulerDiscreteScheduler, KDiffusionScheduler, PNDMScheduler

PROMPT = "a (red:1.3) fox"
RUN: dict[str, Any] = {"num_inference_steps": 3, "seeds": [5], "guidance_scale": 3.0}


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = sfumato.DPMSolverMultistepScheduler.from_config(pipe.scheduler)
    return pipe


def test_a1111_is_what_its_parts_are_one_by_one(pipe: Any) -> None:
    before = pipe.scheduler
    picture = pipe(PROMPT, compat="a1111", **RUN).images[0]
    assert pipe.scheduler is before
    recipe = picture.recipe
    assert (recipe.rng, recipe.emphasis, recipe.rounding, recipe.sampler) == ("nv", "a1111", "down", "dpmpp_2m")
    assert (recipe.scheduler["_class_name"], recipe.scheduler["schedule"]) == ("KDiffusionScheduler", "automatic")
    assert "compat" not in recipe.to_json()
    assert pipe.replay(recipe).identical
    pipe.scheduler = KDiffusionScheduler.from_config(pipe.scheduler, sampler_name="DPM++ 2M", schedule="karras")
    parts = pipe(PROMPT, rng="nv", emphasis="a1111", rounding="down", **RUN).images[0]
    assert np.array_equal(parts, picture)


def test_diffusers_is_a_plain_call(pipe: Any) -> None:
    plain = pipe(PROMPT, **RUN).images[0]
    assert np.array_equal(pipe(PROMPT, compat="diffusers", **RUN).images[0], plain)
    pipe.scheduler = KDiffusionScheduler.from_config(pipe.scheduler, sampler_name="DPM++ 2M")
    assert np.array_equal(pipe(PROMPT, compat="diffusers", **RUN).images[0], plain)


def test_what_is_said_wins(pipe: Any) -> None:
    said = {"rng": "cpu", "emphasis": "comfy", "rounding": "nearest", "eta_noise_seed_delta": 31337}
    recipe = pipe(PROMPT, compat="a1111", **said, **RUN).images[0].recipe
    assert {name: getattr(recipe, name) for name in said} == said
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler, use_karras_sigmas=True)
    recipe = pipe(PROMPT, compat="a1111", **RUN).images[0].recipe
    assert (recipe.sampler, recipe.scheduler["schedule"]) == ("euler", "karras")


def test_a_generator_says_itself_whose_noise_it_makes(pipe: Any) -> None:
    run = {"num_inference_steps": 1, "output_type": "pil"}
    made = [
        pipe(PROMPT, compat=compat, generator=torch.Generator().manual_seed(3), **run).images[0].recipe.rng
        for compat in ("a1111", "diffusers")
    ]
    assert made == ["nv", "cpu"]


def test_rounding_down_is_at_most_one_level_below_and_mostly_so(pipe: Any) -> None:
    nearest, down = (
        np.asarray(pipe(PROMPT, rounding=rounding, **RUN).images[0], np.int16) for rounding in ("nearest", "down")
    )
    unit = pipe(PROMPT, output_type="np", **RUN).images[0]
    assert np.array_equal(down, (255.0 * unit).astype(np.uint8))
    assert set(np.unique(nearest - down)) == {0, 1}
    assert 0.3 < (nearest - down).mean() < 0.7


def test_schedulers_in_each_program_s_form() -> None:
    base = PNDMScheduler(skip_prk_steps=True, beta_schedule="scaled_linear")
    for sampler, spacing in (("DPM++ 2M", "karras"), ("Euler a", "uniform"), ("DPM++ 3M SDE", "exponential")):
        made = scheduler_as("a1111", base=base, sampler=sampler)
        assert (type(made), made.spacing) == (KDiffusionScheduler, spacing)
    assert scheduler_as("a1111", base=base, sampler="DPM++ 2M Exponential").spacing == "exponential"
    assert scheduler_as("a1111", base=base, sampler="DPM++ 2M", spacing="leading").spacing == "leading"
    assert scheduler_as("diffusers", base=base) is base
    assert type(scheduler_as("diffusers", base=base, sampler="Euler")) is EulerDiscreteScheduler
    kept = KDiffusionScheduler(sampler_name="DPM++ 3M SDE")
    assert scheduler_as("diffusers", base=kept) is kept  # diffusers has none


def test_a_picture_is_begun_from_as_the_web_ui_does(pipe: Any) -> None:
    image = Image.new("RGB", (64, 64), (200, 40, 40))
    run = {**RUN, "image": image, "num_inference_steps": 10}
    noises, steps = [], []
    for compat in ("a1111", "diffusers"):
        drawn = pipe(PROMPT, compat=compat, strength=0.61, **run).images[0]
        recipe = drawn.recipe
        assert pipe.replay(recipe, {"image": image}).identical
        workflow = asked_again(recipe, {"image": image}).checked(pipe.family, 64, 64, 1, Enlargement())
        assert workflow is not None
        levels = levels_of(KDiffusionScheduler.from_config(pipe.scheduler), 10, workflow)
        steps.append(levels.steps)
        source = NoiseSource(5, (4, 8, 8))
        begun = starts(
            workflow, Encoder(pipe.vae), pipe.scheduler, levels, Noises([source]), size=(64, 64), reads=4, device=pipe.device
        )  # fmt: skip
        likeliest = Encoder(pipe.vae).scaled(torch.tensor(np.asarray(image) / 127.5 - 1).permute(2, 0, 1).float())
        noises.append((begun[0].x - likeliest) / levels.sigmas[0])
    assert steps == [7, 6]
    first = NoiseSource(5, (4, 8, 8)).draw()
    assert torch.allclose(noises[0], first, atol=1e-4)
    assert not torch.allclose(noises[1], first, atol=0.1)


def test_the_second_pass_of_the_web_ui_takes_all_its_steps(pipe: Any) -> None:
    taken: list[int] = []

    def count(_: Any, step: int, *rest: Any) -> dict[str, Any]:
        taken.append(step)
        return {}

    run = {**RUN, "num_inference_steps": 4, "strength": 0.5, "scale": 1.25}
    result = sfumato.hires_fix(pipe, "a fox", compat="a1111", callback_on_step_end=count, **run)
    assert taken == [0, 1, 2, 3, 0, 1, 2, 3]
    recipe = sfumato.hires_fix(pipe, "a fox", compat="a1111", **run).recipes[0]
    assert recipe.workflow_options["begun_as"] == "a1111_exact"
    assert "Hires steps: 4" in infotext(recipe)
    assert pipe.replay(recipe).identical
    assert np.array_equal(result.images[0], sfumato.hires_fix(pipe, "a fox", compat="a1111", **run).images[0])
    taken.clear()
    sfumato.hires_fix(pipe, "a fox", callback_on_step_end=count, **run)
    assert taken == [0, 1, 2, 3, 0, 1]


def test_refused(pipe: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown compat 'a111'; did you mean a1111"):
        pipe(PROMPT, compat="a111", **RUN)
    with pytest.raises(UnknownNameError, match="unknown compat"):
        pipe(PROMPT, compat=["a1111"], **RUN)
    with pytest.raises(OptionError, match="begun_as does nothing without image="):
        pipe(PROMPT, begun_as="a1111", **RUN)
    with pytest.raises(OptionError, match="begun_as must be one of diffusers, a1111, a1111_exact, not 'comfy'"):
        pipe(PROMPT, image=Image.new("RGB", (64, 64)), begun_as="comfy", **RUN)
    with pytest.raises(OptionError, match="rounding must be one of nearest, down, not 'up'"):
        pipe(PROMPT, rounding="up", **RUN)
