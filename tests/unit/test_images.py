import contextlib
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import ImageError, OptionError, OutputError, RecipeError, SizeError
from sfumato.images import (
    embedding,
    image_grid,
    pixels_sha256_of,
    read_embedded,
    read_recipe,
    save_animation,
    save_image,
    to_pil,
)
from sfumato.infotext import parse_infotext
from sfumato.recipe import Recipe, pixels_sha256

RECIPE = Recipe(
    prompt="a red apple, 3d style",
    seed=42,
    sampler="euler",
    scheduler={"_class_name": "EulerDiscreteScheduler"},
    steps=20,
    guidance_scale=7.5,
    width=16,
    height=8,
    dtype="float32",
    device="cpu",
    model="models/sd-v1-4",
)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)


@pytest.fixture
def image() -> Image.Image:
    return to_pil(PIXELS)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_every_format_carries_the_recipe(image: Image.Image, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    recipe = replace(RECIPE, prompt='яблоко 🍎, "red"\nnew: line', noise_state="AAAA" * 1500)
    save_image(image, path, recipe)
    assert read_recipe(path) == recipe
    text = read_embedded(path)[1]
    assert text is not None
    assert parse_infotext(text).prompt == recipe.prompt
    if suffix in (".png", ".webp"):
        assert pixels_sha256_of(path) == pixels_sha256(PIXELS), "these formats keep every bit"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_grid_carries_all_its_recipes(image: Image.Image, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grid{suffix}"
    recipes = [RECIPE, replace(RECIPE, seed=43)]
    save_image(image_grid([image, image], 1, 2), path, recipes)
    carried, text = read_embedded(path)
    assert [Recipe.from_dict(entry) for entry in json.loads(carried or "")] == recipes
    assert parse_infotext(text or "").settings["Seed"] == "42"
    with pytest.raises(RecipeError, match="a grid of pictures; take one"):
        read_recipe(path)


def test_a_recipe_too_long_for_jpeg_is_said(image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="save as PNG or WebP"):
        save_image(image, tmp_path / "picture.jpg", replace(RECIPE, prompt="x" * 40_000))
    save_image(image, tmp_path / "picture.webp", replace(RECIPE, prompt="x" * 40_000))
    assert os.listdir(tmp_path) == ["picture.webp"]


def test_formats_without_a_place_get_nothing() -> None:
    assert embedding(RECIPE, "GIF") == {}
    assert embedding(RECIPE, "") == {}


def test_an_unknown_suffix_is_refused(image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'picture.bmp' has the suffix '.bmp'; expected one of .png"):
        save_image(image, tmp_path / "picture.bmp")


def test_never_overwritten_unless_asked(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    save_image(image, path)
    with pytest.raises(OutputError, match="exists already"):
        save_image(image, path, RECIPE)
    save_image(image, path, RECIPE, overwrite=True)
    assert read_recipe(path) == RECIPE


def test_a_full_disk_leaves_nothing(image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for save in (
        lambda: save_image(image, tmp_path / "picture.png", RECIPE),
        lambda: save_animation([image], tmp_path / "a.gif"),
    ):
        with pytest.raises(OutputError, match="the disk is full"):
            save()
    assert os.listdir(tmp_path) == []


def test_a_picture_too_large_for_its_format_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="20000x1 can't be written as WEBP"):
        save_image(Image.new("RGB", (20_000, 1)), tmp_path / "wide.webp")
    assert os.listdir(tmp_path) == []


def test_a_json_file_is_a_recipe_too(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(json.loads(RECIPE.to_json()), indent=2))
    assert read_recipe(tmp_path / "recipe.json") == RECIPE
    with pytest.raises(ImageError, match="can't read"):
        read_recipe(tmp_path / "none.json")


def test_pictures_without_a_recipe(image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "plain.png")
    with pytest.raises(RecipeError, match="carries no recipe"):
        read_recipe(tmp_path / "plain.png")
    chunks = PngInfo()
    chunks.add_text("parameters", "cat\nSteps: 1, Seed: 2, Sampler: Euler")
    image.save(tmp_path / "theirs.png", pnginfo=chunks)
    with pytest.raises(RecipeError, match="of another program"):
        read_recipe(tmp_path / "theirs.png")
    assert read_embedded(tmp_path / "theirs.png") == (None, "cat\nSteps: 1, Seed: 2, Sampler: Euler")


def test_a_damaged_recipe_is_said(image: Image.Image, tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("sfumato", RECIPE.to_json()[:-20])
    image.save(tmp_path / "picture.png", pnginfo=chunks)
    with pytest.raises(RecipeError, match="damaged"):
        read_recipe(tmp_path / "picture.png")


def test_a_deeply_nested_recipe_is_said(tmp_path: Path) -> None:
    """At some depth it can be read and no longer be written; at all of them it is a recipe, or an error that says so."""
    start = RECIPE.to_json().replace('"scheduler": {', '"scheduler": {"x": DEEP, ', 1)
    for depth in (*range(800, 1000, 2), 10**5):
        (tmp_path / "deep.json").write_text(start.replace("DEEP", "[" * depth + "]" * depth))
        with contextlib.suppress(RecipeError):
            read_recipe(tmp_path / "deep.json")


def test_a_camera_maker_note_is_not_a_recipe(image: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"Nikon\x00\x02"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\x00\x00\x00hello"
    image.save(tmp_path / "photo.jpg", exif=exif.tobytes())
    assert read_embedded(tmp_path / "photo.jpg") == (None, None)


@pytest.mark.parametrize("contents", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_said(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "file.png").write_bytes(contents)
    with pytest.raises(ImageError, match=r"file.png") as raised:
        read_recipe(tmp_path / "file.png")
    assert "\n" not in str(raised.value)


def test_a_truncated_picture_is_said(image: Image.Image, tmp_path: Path) -> None:
    save_image(Image.effect_noise((64, 64), 50).convert("RGB"), tmp_path / "picture.png", RECIPE)
    contents = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").write_bytes(contents[: len(contents) // 2])
    with pytest.raises(ImageError, match="damaged"):
        pixels_sha256_of(tmp_path / "picture.png")


def test_no_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture at"):
        read_recipe(tmp_path / "none.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_recipe(tmp_path)


def test_grid_is_row_by_row() -> None:
    shades = [Image.new("RGB", (2, 3), (value, 0, 0)) for value in range(6)]
    grid = image_grid(shades, rows=2, cols=3)
    assert grid.size == (6, 6)
    assert [[grid.getpixel((2 * column, 3 * row))[0] for column in range(3)] for row in range(2)] == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_grid_refuses(image: Image.Image) -> None:
    with pytest.raises(OptionError, match="2 rows and 3 columns takes 6 pictures, not 1"):
        image_grid([image], 2, 3)
    with pytest.raises(OptionError, match="1 or more"):
        image_grid([], 0, 3)
    with pytest.raises(SizeError, match="16x8 and 1x1"):
        image_grid([image, Image.new("RGB", (1, 1))], 1, 2)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (40 * value, 0, 0)) for value in range(5)]
    save_animation(frames, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as animation:
        assert animation.n_frames == 5
        assert animation.info["loop"] == 0
        animation.seek(4)
        animation.load()
        assert animation.info["duration"] == 1600


def test_animation_refuses(image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at least one frame"):
        save_animation([], tmp_path / "a.gif")
    with pytest.raises(OptionError, match=r"expected one of .gif, .webp"):
        save_animation([image], tmp_path / "a.mp4")
