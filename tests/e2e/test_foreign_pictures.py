"""The command on pictures that other programs drew."""

import re
from pathlib import Path

import pytest
from foreign_metadata import A1111, png
from PIL import Image

from sfumato.cli.app import run
from sfumato.images import read_recipe

OUTPUT = pytest.CaptureFixture[str]
THEIRS = (
    "a (red:1.2) apple <lora:ink:0.5>\nNegative prompt: blurry\n"
    "Steps: 2, Sampler: Euler a, CFG scale: 3, Seed: 7, Size: 64x48, Model hash: cc6cb27103, Model: some\x1bmodel, ENSD: 31337, "
    "Denoising strength: 0.5, Hires upscale: 2"
)


def test_settings_are_shown(tmp_path: Path, capsys: OUTPUT) -> None:
    assert run(["inspect", str(png(tmp_path / "a.png", parameters=A1111))]) == 0
    shown = re.sub(r"(?<=\S)   *", ": ", capsys.readouterr().out)
    for line in (
        "another program (AUTOMATIC1111) left",
        "seed resize: 512x512\n",
        "eta noise seed delta: 31337\n",
        "LoRA: eyes: 0.25, text 0.5 (0a1b2c3d4e5f)\n",
        "not carried over:\n",
        "  Hires upscale 2: only the first pass is drawn\n",
        "  VAE vae-ft-mse.safetensors: the model's own VAE decodes",
    ):
        assert line in shown


def test_a_picture_is_drawn_from_them(tiny_folder: Path, tmp_path: Path, capsys: OUTPUT) -> None:
    file, out = png(tmp_path / "theirs.png", parameters=THEIRS), tmp_path / "ours.png"
    assert run(["replay", str(file), "--model", str(tiny_folder), "--device", "cpu", "--out", str(out), "--quiet"]) == 0
    shown = capsys.readouterr().out
    for said in (
        "it can't be bit-identical",
        "the model was some\\x1bmodel (cc6cb27103), here it is",
        "LoRA ink (0.5): it is not here; pass --lora FILE",
        "Hires upscale 2: only the first pass is drawn",
        "mean difference between the two pictures: ",
    ):
        assert said in shown
    recipe = read_recipe(out)
    assert (recipe.seed, recipe.rng, recipe.eta_noise_seed_delta) == (7, "nv", 31337)
    assert recipe.emphasis == "a1111"
    assert recipe.prompt.startswith("a (red:1.2) apple")
    assert (recipe.sampler, recipe.steps, recipe.width, recipe.height) == ("euler_a", 2, 64, 48)
    with Image.open(out) as image:
        assert image.size == (64, 48)
    assert run(["replay", str(out), "--model", str(tiny_folder), "--quiet"]) == 0
    assert "bit-identical" in capsys.readouterr().out


def test_the_model_s_own_checker_looks(tiny_folder_with_checker: Path, tmp_path: Path, capsys: OUTPUT) -> None:
    for seed in range(2):
        file = png(tmp_path / "theirs.png", parameters=f"cat\nSteps: 1, Sampler: Euler, Seed: {seed}, Size: 64x64")
        out = tmp_path / f"{seed}.png"
        assert run(["replay", str(file), "--model", str(tiny_folder_with_checker), "--out", str(out), "--quiet"]) == 0
        recipe = read_recipe(out)
        assert recipe.safety in ("flagged", "passed"), "somebody looked"
        assert (recipe.safety_by, recipe.safety_mode) == ("model", "block")
        assert (recipe.safety == "flagged") == ("safety checker" in capsys.readouterr().err)


def test_a_model_has_to_be_named(tmp_path: Path, capsys: OUTPUT) -> None:
    file = png(tmp_path / "theirs.png", parameters=THEIRS)
    assert run(["replay", str(file)]) == 2
    assert "pass --model" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "replay"])
@pytest.mark.parametrize(
    "chunks", [{"prompt": "{"}, {"invokeai_metadata": "[" * 100_000}, {"parameters": "no settings"}]
)
def test_damaged_settings_are_one_line(tmp_path: Path, command: str, chunks: dict[str, str], capsys: OUTPUT) -> None:
    assert run([command, str(png(tmp_path / "a.png", **chunks))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
