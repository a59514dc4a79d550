"""Pictures made larger: hires fix, and margins painted around one."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import OptionError, RecipeError, ScheduleError, SizeError, UnknownNameError
from sfumato.infotext import infotext, parse_infotext
from sfumato.recipe import Recipe

RUN: dict[str, Any] = {"num_inference_steps": 3, "seeds": [1]}


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("enlarge", ["latent", "pixel"])
def test_hires_fix_yields_the_size_goes_on_from_the_first_picture_and_replays(pipe: Any, enlarge: Any) -> None:
    result = sfumato.hires_fix(
        pipe, "a fox", scale=1.5, enlarge=enlarge, second_steps=5, second_prompt="a red fox", **RUN
    )
    assert result.images[0].size == (96, 96)
    recipe = Recipe.from_json(result.recipes[0].to_json())
    assert (recipe.prompt, recipe.steps, recipe.workflow) == ("a red fox", 5, "img2img")
    assert (recipe.inputs["image"]["recipe"]["prompt"], recipe.inputs["image"]["recipe"]["width"]) == ("a fox", 64)
    assert recipe.unrecorded is None
    assert pipe.replay(recipe).identical
    other = sfumato.hires_fix(
        pipe, "a house", scale=1.5, enlarge=enlarge, second_steps=5, second_prompt="a red fox", **RUN
    )
    assert not np.array_equal(np.asarray(other.images[0]), np.asarray(result.images[0]))


def test_the_second_pass_has_a_sampler_of_its_own(pipe: Any) -> None:
    drawn = {
        second: sfumato.hires_fix(pipe, "a fox", scale=1.5, second_sampler=second, **RUN)
        for second in (None, "DPM++ 2M Karras", "Euler a")
    }
    pictures = [np.asarray(result.images[0]) for result in drawn.values()]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(pictures, 2))
    recipe = Recipe.from_json(drawn["DPM++ 2M Karras"].recipes[0].to_json())
    assert (recipe.sampler, recipe.inputs["image"]["recipe"]["sampler"]) == ("dpmpp_2m", "plms")
    assert pipe.replay(recipe).identical
    assert pipe.scheduler.sampler == "plms", "the pipeline's own stays"
    said = parse_infotext(infotext(recipe)).settings
    assert {name: said.get(name) for name in ("Sampler", "Size", "Steps", "Denoising strength")} == {
        "Sampler": "PLMS", "Size": "64x64", "Steps": "3", "Denoising strength": "0.7",
    }  # fmt: skip
    assert {name: value for name, value in said.items() if name.startswith("Hires")} == {
        "Hires upscale": "1.5", "Hires steps": "2", "Hires upscaler": "Latent", "Hires sampler": "DPM++ 2M", "Hires schedule type": "Karras",
    }  # fmt: skip
    plain = parse_infotext(infotext(drawn[None].recipes[0])).settings
    assert [name for name in plain if name.startswith("Hires")] == ["Hires upscale", "Hires steps", "Hires upscaler"]
    euler = sfumato.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    by_value = sfumato.hires_fix(pipe, "a fox", scale=1.5, second_sampler=euler, **RUN)
    assert np.array_equal(by_value.images[0], drawn["Euler a"].images[0])
    with pytest.raises(UnknownNameError, match="Eulr"):
        sfumato.hires_fix(pipe, "a fox", second_sampler="Eulr", **RUN)


def test_what_the_second_sampler_can_t_do_is_said_before_the_first_pass_is_drawn(pipe: Any) -> None:
    ddim = type(pipe).from_pipe(pipe, scheduler=sfumato.DDIMScheduler.from_config(pipe.scheduler.config))
    steps: list[int] = []
    run = {**RUN, "callback_on_step_end": lambda _, step, __, values: steps.append(step) or values}
    with pytest.raises(OptionError, match=r"eta 0\.5 is only for DDIM"):
        sfumato.hires_fix(ddim, "a fox", scale=1.25, eta=0.5, second_sampler="Euler", **run)
    with pytest.raises(ScheduleError, match="2000 steps"):
        sfumato.hires_fix(ddim, "a fox", scale=1.25, second_steps=2000, **run)
    assert not steps


def test_a_recipe_that_is_made_from_too_many_others_is_refused(pipe: Any) -> None:
    recipe = sfumato.hires_fix(pipe, "a fox", scale=1.25, **RUN).recipes[0]
    values = recipe.inputs["image"]["recipe"]
    for wrong in ({"recipe": {**values, "inputs": {"image": {}}}}, {"enlarge": "water"}, {"recipe": 7}):
        damaged = Recipe.from_dict({**_dict(recipe), "inputs": {"image": {**recipe.inputs["image"], **wrong}}})
        with pytest.raises(RecipeError):
            pipe.replay(damaged)


def _dict(recipe: Recipe) -> dict[str, Any]:
    import json

    return json.loads(recipe.to_json())


def test_margins_are_painted_and_the_picture_stays(pipe: Any) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    result = pipe("a fox", image=image, extend=(0, 8, 24, 0), **RUN)
    painted = np.asarray(result.images[0])
    assert painted.shape == (56, 88, 3)
    assert np.array_equal(painted[8:, :64], np.asarray(image))
    assert np.ptp(painted[8:, 64:].astype(int), axis=1).max() > 3, "more than its edges drawn out"
    assert pipe.replay(Recipe.from_json(result.recipes[0].to_json()), {"image": image}).identical
    with pytest.raises(SizeError, match="width must be a positive multiple of 8, not 67"):
        pipe("a fox", image=image, extend=(3, 0, 0, 0), **RUN)
    for wrong in ((0, 0, 0, 0), (1, 2), "8", (8, 0, -8, 0)):
        with pytest.raises(OptionError, match="extend"):
            pipe("a fox", image=image, extend=wrong, **RUN)


def test_hires_fix_answers_as_a_call_does_and_refuses_options_about_other_pictures(pipe: Any) -> None:
    images, flags = sfumato.hires_fix(pipe, "a fox", scale=1.25, return_dict=False, image=None, **RUN)
    assert (images[0].size, flags) == ((80, 80), None)
    for name, value in (("image", images[0]), ("latents", torch.zeros(1, 4, 8, 8)), ("denoising_end", 0.5)):
        with pytest.raises(OptionError, match=f"leave out {name}"):
            sfumato.hires_fix(pipe, "a fox", **{name: value}, **RUN)
    with pytest.raises(OptionError, match="strength"):
        sfumato.hires_fix(pipe, "a fox", strength=1.5, **RUN)


@pytest.mark.parametrize(
    "said", [{"width": 64}, {"extend": (8, 0, 0, 0)}, {"resize_mode": "crop", "enlarge": "latent"}]
)
def test_tiled_upscale_refuses_what_says_another_size(pipe: Any, said: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"leave out {next(iter(said))}"):
        sfumato.tiled_upscale(pipe, Image.new("RGB", (64, 64)), "a fox", **said, **RUN)
