"""`--image`, `--mask` and what goes with them as a person uses them, on a tiny random model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.cli.app import run
from sfumato.images import read_recipe

OUTPUT = pytest.CaptureFixture[str]
COMMON = ["--model", "model", "--steps", 4, "--seed", 1, "--device", "cpu", "--safety", "off"]


def sfumato(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture
def here(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny model, a picture and a mask in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / tiny_folder.name).symlink_to(tiny_folder)
    (tmp_path / "model").symlink_to(tiny_folder)
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save("photo.png")
    mask = Image.new("L", (64, 48))
    mask.paste(255, (16, 16, 40, 40))
    mask.save("mask.png")
    return tmp_path


def test_a_part_of_a_picture_is_painted_and_replayed(here: Path, capsys: OUTPUT) -> None:
    common = [*COMMON, "--image", "photo.png", "--mask", "mask.png", "--mask-content", "fill", "--strength", 0.9]
    assert sfumato("generate", "a fox", *common, "--out", "out.png") == 0
    before, after = (np.asarray(Image.open(name).convert("RGB")) for name in ("photo.png", "out.png"))
    outside = np.asarray(Image.open("mask.png")) == 0
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before, after)
    recipe = read_recipe(here / "out.png")
    assert recipe.workflow == "inpaint"
    assert recipe.inputs["mask_image"]["file"] == "mask.png"
    assert sfumato("replay", "out.png") == 0
    assert "bit-identical" in capsys.readouterr().out

    (here / "mask.png").rename(here / "elsewhere.png")
    assert sfumato("replay", "out.png") == 2
    said = capsys.readouterr().err
    assert "neither here nor beside it: mask_image (mask.png, sha256" in said
    assert "photo.png," not in said
    assert sfumato("replay", "out.png", "--input", "elsewhere.png") == 0


@pytest.mark.usefixtures("here")
def test_a_picture_is_drawn_over_larger_and_replayed(capsys: OUTPUT) -> None:
    assert sfumato("generate", "a fox", *COMMON, "--hires", 1.5, "--hires-steps", 3, "--out", "plain.png") == 0
    assert sfumato("generate", "a fox", *COMMON, "--hires", 1.5, "--hires-steps", 3, "--hires-sampler", "Euler a", "--out", "out.png") == 0  # fmt: skip
    recipe = read_recipe(Path("out.png"))
    assert (recipe.sampler, recipe.inputs["image"]["recipe"]["sampler"]) == ("euler_a", "plms")
    assert read_recipe(Path("plain.png")).pixels_sha256 != recipe.pixels_sha256
    with Image.open("out.png") as drawn:
        assert drawn.size == (96, 96)
    assert sfumato("replay", "out.png") == 0
    assert "bit-identical" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_picture_is_drawn_over_in_tiles_and_a_texture_without_seams(capsys: OUTPUT) -> None:
    assert sfumato("generate", "a fox", *COMMON, "--image", "photo.png", "--upscale", 2, "--out", "large.png") == 0
    recipe = read_recipe(Path("large.png"))
    assert (recipe.width, recipe.height, recipe.tile, recipe.tile_overlap) == (128, 96, (64, 64), 16)
    assert recipe.workflow_options["strength"] == 0.3
    canvas = ["--size", "96x64", "--tile", "64x48", "--tile-overlap", 8, "--seamless", "both"]
    assert sfumato("generate", "a fox", *COMMON, *canvas, "--out", "texture.png") == 0
    recipe = read_recipe(Path("texture.png"))
    assert (recipe.tile, recipe.tile_overlap, recipe.seamless) == ((64, 48), 8, "both")
    capsys.readouterr()
    for name in ("large.png", "texture.png"):
        assert sfumato("replay", name) == 0
        assert "bit-identical" in capsys.readouterr().out


def test_what_needs_a_picture_says_so_before_a_model_is_opened(here: Path, capsys: OUTPUT) -> None:
    for options, message in (
        (["--strength", 0.5], "--strength needs --image FILE"),
        (["--image", "photo.png", "--mask-blur", 2], "--mask-blur needs --mask FILE"),
        (["--hires-steps", 2], "--hires-steps needs --hires SCALE"),
        (["--hires-sampler", "Euler"], "--hires-sampler needs --hires SCALE"),
        (["--hires", 2, "--hires-sampler", "Eulr"], "unknown sampler 'Eulr'"),
        (["--hires", 2, "--image", "photo.png"], "takes no --image"),
        (["--image", "photo.png", "--extend", "8,8"], "expected LEFT,TOP,RIGHT,BOTTOM"),
        (["--upscale", 2], "--upscale needs --image FILE"),
        (["--upscale", 2, "--image", "photo.png", "--size", "64x64"], "leave out --size"),
        (["--upscale", 99, "--image", "photo.png"], "scale must be from 1 to 16"),
        (["--tile", "big"], "expected pixels of a side, WIDTHxHEIGHT, or 'model'"),
        (["--seamless", "z"], "seamless must be one of x, y, both"),
        (["--image", "absent.png"], "no picture at absent.png"),
        (["--image", "photo.png", "--strength", 2], "strength must be from 0 to 1"),
    ):
        assert sfumato("generate", "a fox", *COMMON, *options) == 2
        assert message in capsys.readouterr().err
    assert not list((here / "outputs").glob("*.png"))


def test_a_picture_is_enlarged_and_replayed(here: Path, family_folders: Callable[[str], Path], capsys: OUTPUT) -> None:
    (here / "upscaler").symlink_to(family_folders("x4-upscaler"))
    Image.open("photo.png").resize((16, 12)).save("small.png")
    common = [*COMMON[2:], "--model", "upscaler", "--image", "small.png", "--noise-level", 10]
    assert sfumato("generate", "a fox", *common, "--out", "out.png") == 0
    with Image.open("out.png") as drawn:
        assert drawn.size == (64, 48)
    assert read_recipe(here / "out.png").workflow_options == {"noise_level": 10}
    (here / family_folders("x4-upscaler").name).symlink_to(family_folders("x4-upscaler"))
    assert sfumato("replay", "out.png") == 0
    assert "bit-identical" in capsys.readouterr().out
    assert sfumato("generate", "a fox", *COMMON, "--noise-level", 10) == 2
    assert "--noise-level needs --image FILE" in capsys.readouterr().err
