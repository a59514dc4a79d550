import base64
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfumato.errors import RecipeError
from sfumato.images import pixels_sha256_of, read_embedded, read_recipe, save_image, to_pil
from sfumato.infotext import infotext
from sfumato.recipe import Recipe, pixels_sha256

RECIPE = Recipe(
    prompt="a red apple, 3d style",
    negative_prompt="blurry",
    seed=42,
    sampler="euler",
    scheduler={
        "_class_name": "EulerDiscreteScheduler",
        "beta_start": 0.00085,
        "trained_betas": None,
        "use_karras_sigmas": True,
    },
    steps=20,
    guidance_scale=7.5,
    width=512,
    height=768,
    dtype="float32",
    device="cpu",
    model="models/sd-v1-4",
    model_sha256="ab" * 32,
    safety="passed",
    versions={"sfumato": "0.1.0", "torch": "2.13.0"},
    pixels_sha256="cd" * 32,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | st.integers() | numbers | st.text()
configs = st.dictionaries(
    st.text(),
    st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
    ),
    max_size=4,
)
# Any text that Python can hold: new lines, commas, colons, NUL, lone surrogates (which a terminal can give).
texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["", "a: b, c: d, e: f", "\nNegative prompt: x", "Steps: 1, Seed: 2, Size: 3x4", '"\\']
)
recipes = st.builds(
    Recipe,
    prompt=st.none() | texts,
    negative_prompt=st.none() | texts,
    seed=st.none() | st.integers(min_value=0, max_value=2**64 - 1),
    rng=st.sampled_from(["cpu", "nv", "nv:40960"]),
    subseed=st.integers(min_value=0, max_value=2**64 - 1),
    subseed_strength=st.floats(0, 1),
    seed_resize=st.none() | st.tuples(st.integers(8, 2**20), st.integers(8, 2**20)),
    eta_noise_seed_delta=st.integers(-(2**62), 2**62),
    noise_index=st.integers(min_value=0, max_value=99),
    noise_count=st.integers(min_value=100, max_value=999),
    noise_state=st.none() | st.binary(max_size=200).map(lambda state: base64.b64encode(state).decode()),
    sampler=st.sampled_from(["euler", "plms", "dpmpp_2m"]) | st.text(),
    scheduler=configs,
    steps=st.integers(min_value=1, max_value=1000),
    guidance_scale=st.floats(min_value=0, max_value=1e6),
    eta=st.floats(min_value=0, max_value=1),
    width=st.integers(min_value=8, max_value=4096),
    height=st.integers(min_value=8, max_value=4096),
    clip_skip=st.none() | st.integers(min_value=0, max_value=12),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    model=texts,
    model_sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    safety=st.sampled_from(["off", "passed", "flagged"]),
    exact=st.booleans(),
    versions=st.dictionaries(st.text(), st.text(), max_size=4),
    pixels_sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
)  # fmt: skip


@settings(deadline=None)
@given(recipes)
def test_json_both_ways(recipe: Recipe) -> None:
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert Recipe.from_json(text).to_json() == text
    assert text.isascii()
    assert "\n" not in text


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes)
def test_any_recipe_goes_through_a_png(tmp_path: Path, recipe: Recipe) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    path = tmp_path / "picture.png"
    save_image(to_pil(pixels), path, recipe, overwrite=True)
    assert read_recipe(path) == recipe
    assert read_embedded(path)[1] == infotext(recipe)
    assert pixels_sha256_of(path) == pixels_sha256(pixels)


def test_every_field_is_in_the_json_in_order() -> None:
    assert list(json.loads(RECIPE.to_json())) == [field.name for field in fields(Recipe)]


def test_numbers_and_tuples_are_what_json_gives_back() -> None:
    recipe = replace(RECIPE, guidance_scale=7, scheduler={"trained_betas": (0.1, 0.2)})
    assert isinstance(recipe.guidance_scale, float)
    assert recipe.scheduler == {"trained_betas": [0.1, 0.2]}


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.seed = 1  # type: ignore[misc]


def test_absent_fields_have_their_defaults() -> None:
    values = json.loads(RECIPE.to_json())
    for name in ("eta", "noise_state", "versions"):
        del values[name]
    assert Recipe.from_dict(values) == replace(RECIPE, versions={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hires": True, "loras": []}, "unknown keys .'hires', 'loras'.; a newer Sfumato"),
        ({"prompt": 7}, "prompt is 7; expected text or nothing"),
        ({"seed": "42"}, "seed is '42'; expected a whole number or nothing"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"steps": True}, "steps is True; expected a whole number"),
        ({"guidance_scale": 10**400}, "guidance_scale is 1000.*; expected 0 to"),
        ({"noise_state": "AAA"}, "noise_state is damaged: not base64"),
        ({"guidance_scale": "high"}, "guidance_scale is 'high'; expected a number"),
        ({"exact": 1}, "exact is 1; expected true or false"),
        ({"safety": "maybe"}, "safety is 'maybe'; expected 'off' or 'passed' or 'flagged'"),
        ({"steps": 0}, "steps is 0; expected 1 to"),
        ({"eta": 1.5}, "eta is 1.5; expected 0 to 1"),
        ({"noise_count": 10**9}, "noise_count is 1000000000; expected 1 to 65536"),
        ({"noise_index": 3, "noise_count": 3}, "noise row 3 of 3"),
        ({"workflow": "collage"}, "workflow is 'collage'; expected 'txt2img' or 'img2img'"),
        ({"scheduler": ["euler"]}, "scheduler is .*; expected a table"),
        ({"versions": {"torch": 2}}, "versions is"),
        ({"prompt": ["x" * 500]}, "prompt is .{0,60}; expected"),
    ],
)
def test_wrong_fields_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        Recipe.from_json(json.dumps(json.loads(RECIPE.to_json()) | changes))
    assert "\n" not in str(raised.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RecipeError, match="lacks prompt, seed"):
        Recipe.from_json(
            '{"sampler": "euler", "scheduler": {}, "steps": 1, "guidance_scale": 1, "width": 8, "height": 8, "dtype": "", "device": "", "model": ""}'
        )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", b"\xff\xff", "[" * 100_000])
def test_damaged_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_nan(value: float) -> None:
    with pytest.raises(RecipeError, match=r"guidance_scale is (nan|inf); expected 0 to"):
        replace(RECIPE, guidance_scale=value)
    with pytest.raises(RecipeError, match="no place"):
        replace(RECIPE, scheduler={"beta_start": value})
    with pytest.raises(RecipeError, match="no place"):
        replace(RECIPE, scheduler={"beta_start": object()})


def test_pixels_hash_is_of_the_rows() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert pixels_sha256(pixels) == pixels_sha256(np.asfortranarray(pixels))
    assert pixels_sha256(pixels) != pixels_sha256(pixels[::-1])


def test_reading_recipes_needs_no_torch() -> None:
    script = "import sys, sfumato.images, sfumato.recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_equal_recipes_have_equal_hashes() -> None:
    assert hash(replace(RECIPE)) == hash(RECIPE)
    assert len({RECIPE, replace(RECIPE), replace(RECIPE, steps=RECIPE.steps + 1)}) == 2
