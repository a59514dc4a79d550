"""What a call may spare: checked, recorded, replayed, the same alone as in a batch, and nothing where it says nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.cli.fast import fast_options
from sfumato.engine import FastOptions
from sfumato.errors import OptionError, RecipeError, UnknownNameError, UnsupportedError
from sfumato.infotext import infotext
from sfumato.models import LatentUpscaler
from sfumato.pipeline.fast_options import TOGETHER, USUAL, check_fast, take_fast
from sfumato.pipeline.request import Request
from sfumato.pipeline.together import draw_together
from sfumato.recipe import Recipe

SETTINGS: dict[str, Any] = {"num_inference_steps": 4, "height": 64, "width": 64}
OPTIONS: dict[str, dict[str, Any]] = {
    "cache": {"cache": 2, "cache_depth": 1},
    "cache alone": {"cache": 3, "cache_depth": 0},
    "merge": {"merge": 0.5},
    "adaptive": {"adaptive": 0.5},
    "all": {"cache": 2, "cache_depth": 1, "merge": 0.75, "adaptive": 0.5},
}


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        for parameter in pipe.unet.parameters():  # so that what is spared is seen in the few bits of a picture
            parameter.mul_(2.0)
    return pipe


@pytest.fixture(scope="module")
def plain(pipe: Any) -> Any:
    return pipe("a fox", seeds=[1], **SETTINGS).images[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_each_changes_the_picture_is_recorded_and_replayed(pipe: Any, plain: Any, name: str) -> None:
    image = pipe("a fox", seeds=[1], fast=OPTIONS[name], **SETTINGS).images[0]
    assert not np.array_equal(image, plain)
    recipe = Recipe.from_json(image.recipe.to_json())
    assert recipe.fast == OPTIONS[name]
    result = pipe.replay(recipe)
    assert result.identical
    assert result.recipe == image.recipe


@pytest.mark.parametrize(
    "nothing", [None, False, {}, [], {"cache": 1}, {"merge": 0.0}, {"adaptive": None}, FastOptions()]
)
def test_what_asks_nothing_changes_no_bit(pipe: Any, plain: Any, nothing: Any) -> None:
    image = pipe("a fox", seeds=[1], fast=nothing, **SETTINGS).images[0]
    assert np.array_equal(image, plain)
    assert image.recipe == plain.recipe
    assert image.recipe.fast == {}


def test_a_batch_draws_as_each_alone(pipe: Any) -> None:
    calls = [
        {"prompt": "a fox", "seeds": [1], "fast": OPTIONS[name] if name else None, **SETTINGS}
        for name in (*OPTIONS, "")
    ]
    alone = [pipe(**call).images[0] for call in calls]
    for one, result in zip(alone, draw_together(pipe, calls), strict=True):
        assert result.images[0].recipe == one.recipe  # type: ignore[union-attr]
    assert len({one.recipe.pixels_sha256 for one in alone}) == len(calls)


def test_names_alone_are_the_usual_values(pipe: Any) -> None:
    others: dict[str, Any] = {"fast": True}
    together = take_fast(others)
    assert others.get("guidance_interval") == TOGETHER.get("interval")
    assert together == take_fast({"fast": {name: value for name, value in TOGETHER.items() if name != "interval"}})
    assert take_fast({"fast": ["cache", "merge"]}) == FastOptions(cache=USUAL["cache"], merge=USUAL["merge"])
    assert take_fast({"fast": "adaptive"}) == FastOptions(adaptive=USUAL["adaptive"])
    assert take_fast({"fast": {"cache": True, "cache_depth": 0}}) == FastOptions(cache=USUAL["cache"], cache_depth=0)


def test_the_interval_is_guidance_s(pipe: Any) -> None:
    fast = pipe("a fox", seeds=[1], fast={"interval": (0.0, 0.5)}, **SETTINGS).images[0]
    same = pipe("a fox", seeds=[1], guidance_interval=(0.0, 0.5), **SETTINGS).images[0]
    assert fast.recipe == same.recipe
    assert fast.recipe.fast == {}
    with pytest.raises(OptionError, match="say the same"):
        pipe("a fox", fast={"interval": (0.0, 0.5)}, guidance_interval=(0.0, 0.4), **SETTINGS)


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"fast": {"cache": 0}}, OptionError, "at least 1|from 1"),
        ({"fast": {"cache": 1.5}}, OptionError, "whole number"),
        ({"fast": {"cache": 2, "cache_depth": 99}}, OptionError, "at most 2"),
        ({"fast": {"cache_depth": 1}}, OptionError, "give a cache"),
        ({"fast": {"merge": 0.9}}, OptionError, "from 0 to 0.75"),
        ({"fast": {"adaptive": 2}}, OptionError, "from -1 to 1"),
        ({"fast": {"cash": 2}}, UnknownNameError, "did you mean cache"),
        ({"fast": "merger"}, UnknownNameError, "did you mean merge"),
        ({"fast": 3}, OptionError, "not 3"),
        ({"fast": {"interval": 3}}, OptionError, "guidance_interval"),
        ({"fast": {"cache": 2}, "tile": 64}, UnsupportedError, "can't be combined with tile"),
        ({"fast": {"adaptive": 0.9}, "tile": 64}, UnsupportedError, "can't be combined with tile"),
        ({"fast": {"merge": 0.5}, "pag_scale": 3.0}, UnsupportedError, "pag_scale"),
        ({"fast": {"adaptive": 0.9}, "pag_scale": 3.0}, UnsupportedError, "pag_scale"),
    ],
)
def test_what_can_not_be_is_refused(pipe: Any, asked: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        pipe("a fox", **SETTINGS, **asked)


def test_a_network_of_another_kind_is_refused() -> None:
    request = Request(
        texts=(), images_per_prompt=1, height=64, width=64, steps=1, guidance_scale=1.0, guided=False, eta=0.0,
        clip_skip=None, fast=FastOptions(cache=2),
    )  # fmt: skip
    with torch.device("meta"):
        network = LatentUpscaler.__new__(LatentUpscaler)
    with pytest.raises(UnsupportedError, match="can't be evaluated in part; leave out fast cache"):
        check_fast(request, network)


def test_a_recipe_of_something_newer_is_refused(pipe: Any, plain: Any) -> None:
    with pytest.raises(RecipeError, match="'teleport'"):
        pipe.replay(replace(plain.recipe, fast={"teleport": 1}))
    with pytest.raises(OptionError, match="from 0 to"):
        pipe.replay(replace(plain.recipe, fast={"merge": 3}))


def test_what_does_nothing_is_said(pipe: Any) -> None:
    result = pipe("a fox", seeds=[1], fast="adaptive", guidance_scale=1.0, **SETTINGS)
    assert "fast adaptive does nothing: there is no guidance" in result.notes


def test_merging_has_the_web_ui_s_name(plain: Any) -> None:
    assert "Token merging ratio: 0.5" in infotext(replace(plain.recipe, fast={"merge": 0.5}))
    assert "Token merging" not in infotext(plain.recipe)


def test_the_command_s_words() -> None:
    assert fast_options(None) == fast_options([]) == {}
    assert fast_options(["cache:3", "merge"]) == {"fast": {"cache": 3, "merge": True}}
    assert fast_options(["interval:0.1-.8", "adaptive:1.0"]) == {"fast": {"interval": (0.1, 0.8), "adaptive": 1.0}}
    assert fast_options(["sound"]) == {"fast": dict(TOGETHER)}
    assert fast_options(["sound", "cache:3"]) == {"fast": {**TOGETHER, "cache": 3}}
    for wrong in (["cache:x"], ["cache", "cache:2"], ["sound:1"], ["merge:0.1-0.2-0.3"]):
        with pytest.raises(OptionError, match="--fast"):
            fast_options(wrong)
