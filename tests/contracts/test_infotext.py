"""Readers that others wrote find in our pictures what we put there.

sd-parsers whole; and piexif, with which the web UI itself and sd-prompt-reader read the EXIF of a JPEG or WebP.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import piexif
import piexif.helper
import pytest
from PIL import Image
from sd_parsers import ParserManager

from sfumato.images import save_image, to_pil
from sfumato.infotext import infotext
from sfumato.recipe import Recipe

RECIPE = Recipe(
    prompt="a red apple on a table, (3d style:1.2), café 🍎\nsecond line: detailed",
    negative_prompt="blurry, low quality",
    seed=18446744073709551615,
    sampler="dpmpp_2m",
    scheduler={"use_karras_sigmas": True},
    steps=28,
    guidance_scale=6.5,
    width=64,
    height=48,
    clip_skip=1,
    dtype="float32",
    device="cpu",
    model="dreamshaper-8",
    model_sha256="fedcba9876543210" * 4,
    versions={"sfumato": "0.1.0"},
)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, prompt="apple", negative_prompt="", sampler="plms", scheduler={}, clip_skip=None)],
)
def test_sd_parsers_reads_what_we_write(tmp_path: Path, recipe: Recipe, suffix: str) -> None:
    save_image(to_pil(np.zeros((48, 64, 3), np.uint8)), tmp_path / f"picture{suffix}", recipe)
    found = ParserManager().parse(tmp_path / f"picture{suffix}")
    assert found is not None
    (sampler,) = found.samplers
    assert [prompt.value for prompt in sampler.prompts] == [recipe.prompt]
    assert [prompt.value for prompt in sampler.negative_prompts] == (
        [recipe.negative_prompt] if recipe.negative_prompt else []
    )
    assert sampler.name == {"dpmpp_2m": "DPM++ 2M", "plms": "PLMS"}[recipe.sampler]
    assert sampler.parameters["seed"] == str(recipe.seed)
    assert sampler.parameters["steps"] == str(recipe.steps)
    assert sampler.parameters["cfg_scale"] == "6.5"
    assert sampler.parameters.get("scheduler") == ("Karras" if recipe.scheduler else None)
    assert (sampler.model.name, sampler.model.hash) == ("dreamshaper-8", "fedcba9876")
    assert found.metadata["Size"] == "64x48"


def test_sd_parsers_reads_the_rest_where_a_seed_alone_would_mislead(tmp_path: Path) -> None:
    recipe = replace(RECIPE, seed=7, noise_index=1, noise_count=3)
    save_image(to_pil(np.zeros((48, 64, 3), np.uint8)), tmp_path / "second.png", recipe)
    found = ParserManager().parse(tmp_path / "second.png")
    assert found is not None
    (sampler,) = found.samplers
    assert [prompt.value for prompt in sampler.prompts] == [recipe.prompt]
    assert (sampler.name, sampler.parameters["steps"], sampler.model.name) == ("DPM++ 2M", "28", "dreamshaper-8")
    assert "seed" not in sampler.parameters
    assert found.metadata["Noise"] == "row 2 of 3 from seed 7"


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_piexif_reads_the_comment_as_the_web_ui_does(tmp_path: Path, suffix: str) -> None:
    save_image(to_pil(np.zeros((48, 64, 3), np.uint8)), tmp_path / f"picture{suffix}", RECIPE)
    with Image.open(tmp_path / f"picture{suffix}") as image:
        exif = piexif.load(image.info["exif"])["Exif"]
    comment = exif[piexif.ExifIFD.UserComment]
    assert piexif.helper.UserComment.load(comment) == infotext(RECIPE)
    assert exif[piexif.ExifIFD.MakerNote] == RECIPE.to_json().encode()
