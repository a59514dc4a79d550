"""Axes of a grid: their names, their values, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from sfumato.cli.axes import parse_axis, take_axes
from sfumato.cli.fields import fields, find_field
from sfumato.cli.grid_plan import GridPlan, plan_grid
from sfumato.cli.wanted import wanted_of
from sfumato.errors import SfumatoError

BASE: dict[str, Any] = {"prompt": "a red apple", "negative": "no apple", "seed": 1}


def values(said: str, name: str) -> list[Any]:
    return [value.apply(BASE).get(name) for value in parse_axis(said, BASE).values]


@pytest.mark.parametrize(
    ("said", "name", "expected"),
    [
        ("steps:10,20,50", "steps", [10, 20, 50]),
        ("steps:10-50:20", "steps", [10, 30, 50]),
        ("Steps: 3-1", "steps", [3, 2, 1]),
        ("steps:1-10 [4]", "steps", [1, 4, 7, 10]),
        ("CFG scale:1-2 (+0.25)", "guidance", [1.0, 1.25, 1.5, 1.75, 2.0]),
        ("guidance:0.1-0.3:0.1,7", "guidance", [0.1, 0.2, 0.3, 7.0]),
        ("guidance:5-3 (-1)", "guidance", [5.0, 4.0, 3.0]),
        ("seed:18446744073709551614-18446744073709551615", "seed", [2**64 - 2, 2**64 - 1]),
        ("sampler:Euler,DPM++ 2M", "sampler", ["Euler", "DPM++ 2M"]),
        ("Schedule type:karras", "spacing", ["karras"]),
        ("clip-skip:0,1", "clip_skip", [0, 1]),
        ("soft mask:yes,false", "soft_mask", [True, False]),
        ('negative:"a, b",c,', "negative", ["a, b", "c", ""]),
        ("prompt:a cat,a dog", "prompt", ["a cat", "a dog"]),
        ("prompt:apple=pear,plum", "prompt", ["a red pear", "a red plum"]),
        ("prompt:apple=pear", "negative", ["no pear"]),
        ('S/R:red,"blue, small",', "prompt", ["a red apple", "a blue, small apple", "a  apple"]),
        ("image:a.png", "image", [Path("a.png")]),
        ("lora:a.safetensors:0.5", "lora", [["a.safetensors:0.5"]]),
    ],
)
def test_values(said: str, name: str, expected: list[Any]) -> None:
    assert values(said, name) == expected


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("step:1", "unknown axis 'step'; did you mean steps"),
        ("zzzz:1", "unknown axis 'zzzz'; known: prompt, seed, steps"),
        ("steps:1,two", "steps is 'two'; expected a whole number"),
        ("steps:0", "steps is 0; expected a number from 1 to 1000"),
        ("steps:", "has 0 values; expected 1 to 1000"),
        ("guidance:1-2 (-0.5)", "never comes from 1 to 2"),
        ("guidance:1-2:0", "never comes"),
        ("seed:1-9999", "has 1,001 values"),
        ("eta:2", "eta is 2.0; expected a number from 0 to 1"),
        ('negative:"a,b', "comma-separated"),
        ("prompt:cherry=pear", "the prompt does not have 'cherry'"),
        ("lora-weight:0,1", "--lora FILE .given: none."),
        ("number:2", "unknown axis 'number'"),
    ],
)
def test_refused(said: str, message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        parse_axis(said, BASE)


def test_a_lora_s_weight(tmp_path: Path) -> None:
    for name in ("ink", "wash"):
        (tmp_path / f"{name}.safetensors").touch()
    one, two = (f"{tmp_path / name}.safetensors" for name in ("ink", "wash"))
    axis = parse_axis("lora-weight:0-1:0.5", {**BASE, "lora": [one]})
    assert [value.apply({"lora": [one]})["lora"] for value in axis.values] == [
        [f"{one}:{w}"] for w in ("0", "0.5", "1")
    ]
    axis = parse_axis("lora-weight wash:2", {**BASE, "lora": [one, f"{two}:0.5"]})
    assert axis.values[0].apply({"lora": [one, two]})["lora"] == [one, f"{two}:2"]
    with pytest.raises(SfumatoError, match="given: ink, wash"):
        parse_axis("lora-weight:2", {**BASE, "lora": [one, two]})


def test_words_of_the_command() -> None:
    assert take_axes(["x=steps:1,2", "a cat: x=2", "Y = sampler : a"]) == (
        {"x": "steps:1,2", "y": "sampler: a"},
        ["a cat: x=2"],
    )
    with pytest.raises(SfumatoError, match="two axes x="):
        take_axes(["x=steps:1", "x=seed:1"])


def test_the_cells_of_a_plan_and_its_definition() -> None:
    plan = plan_grid(
        {"seed": 5, "image": Path("/home/me/a.png")},
        {"x": "steps:1,2", "z": "S/R:red,blue", "y": "model:/x/y,bundled/z"},
        ["a red cat"],
        None,
    )
    cells = [(p.x, p.y, p.z, p.options["steps"], p.options["prompt"]) for p in plan.places()]
    assert cells[0] == (0, 0, 0, 1, "a red cat")
    assert cells[-1] == (1, 1, 1, 2, "a blue cat")
    assert len(cells) == 8
    held = plan.definition()
    assert held["options"] == {"seed": 5, "image": "a.png"}
    assert held["axes"]["y"] == "model:y,bundled/z"
    assert "home" not in str(held)
    # Whole prompts first, then words in them.
    plan = plan_grid({"seed": 5}, {"x": "S/R:red,blue", "y": "prompt:red cat,red dog"}, [], None)
    assert [p.options["prompt"] for p in plan.places()] == ["red cat", "blue cat", "red dog", "blue dog"]


def test_a_matrix_lies_along_both_sides() -> None:
    plan = plan_grid({"seed": 5}, {"z": "steps:1,2"}, [], "a|b|c|d")
    assert [value.label for value in plan.axis("x").values] == ["none", "b", "c", "b, c"]
    assert [p.options["prompt"] for p in plan.places() if p.z == 0] == [
        "a", "a, b", "a, c", "a, b, c", "a, d", "a, b, d", "a, c, d", "a, b, c, d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("axes", "prompts", "matrix", "message"),
    [
        ({}, ["a"], None, "a grid needs an axis"),
        ({"x": "steps:1"}, [], None, "no prompt"),
        ({"x": "steps:1"}, ["a", "b"], None, "one prompt, and 2 were given"),
        ({"x": "steps:1", "y": "steps:2"}, ["a"], None, "two axes set steps"),
        ({"x": "seed:1-1000", "y": "steps:1-1000"}, ["a"], None, "1,000,000 pictures; 4,096 are the most"),
        ({"x": "seed:1"}, [], "a|b", "lies along x"),
        ({}, ["c"], "a|b", "leave out 'c'"),
        ({"x": "prompt:a,b"}, ["c"], None, "prompt is given for all pictures, and x= varies it"),
        ({"x": "prompt:a,b", "y": "prompt:c,d"}, [], None, "two axes set prompt"),
        ({"z": "prompt:c,d"}, [], "a|b", "two axes set prompt|prompt is given"),
        ({"x": "lines:1"}, ["c"], None, "unknown axis 'lines'"),
    ],
)
def test_grids_that_can_not_be(axes: dict[str, str], prompts: list[str], matrix: str | None, message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        plan_grid({}, axes, prompts, matrix)


def test_what_an_axis_varies_is_not_said_besides() -> None:
    with pytest.raises(SfumatoError, match="steps is given for all pictures, and y= varies it"):
        plan_grid({"steps": 3}, {"y": "steps:1,2"}, ["a"], None)
    assert "seed" not in plan_grid({}, {"y": "seed:1,2"}, ["a"], None).definition()["options"]


def test_a_seed_is_drawn_once_for_all() -> None:
    plan: GridPlan = plan_grid({}, {"x": "steps:1,2"}, ["a"], None)
    assert len({place.options["seed"] for place in plan.places()}) == 1


def test_every_option_of_generate_is_a_field_and_taken() -> None:
    assert {"prompt", "steps", "compat", "hires", "lora", "no_safety"} <= fields().keys()
    wanted = wanted_of({"prompt": "a", "seed": 3, "sampler": "Euler", "size": "64x48", "no_safety": True})
    assert (wanted.seed, wanted.call["width"], wanted.call["height"], wanted.opens.safety) == (3, 64, 48, "off")
    said = {
        "tile": "64",
        "seamless": "x",
        "guidance_interval": "0,0.5",
        "pag_scale": 2.0,
        "pag_layers": ["up"],
        "freeu": "1,1,2,2",
    }
    call = wanted_of({"prompt": "a", "seed": 3, **said}).call
    assert (call["tile"], call["seamless"], call["guidance_interval"]) == (64, "x", [0.0, 0.5])
    assert (call["pag_scale"], call["pag_applied_layers"], call["freeu"]) == (2.0, ["up"], [1.0, 1.0, 2.0, 2.0])
    second = wanted_of({"prompt": "a", "seed": 3, "hires": 2.0, "hires_sampler": "Euler a"}).second
    assert second == {"scale": 2.0, "second_sampler": "Euler a"}
    assert find_field("CFG scale", "axis").name == "guidance"
