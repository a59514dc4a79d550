"""`sfumato generate --model FILE` as a person uses it, on tiny random models in one file."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, our_networks

from sfumato.checkpoints.single_saving import save_single_file
from sfumato.cli.app import run
from sfumato.images import read_recipe

OUTPUT = pytest.CaptureFixture[str]
COMMON = ["--steps", 2, "--seed", 1, "--size", "64x64", "--device", "cpu", "--no-safety"]


def sfumato(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def write(name: str, path: Path, **networks: Any) -> None:
    """A tiny model of a family as other programs would have it: without the metadata of ours."""
    family = FAMILIES[name]
    save_single_file(path, **our_networks(family), scheduler_config=family.scheduler, family=family)
    save_file(load_file(path), path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sdxl_draws_from_a_file_and_the_picture_is_replayed(here: Path, capsys: OUTPUT) -> None:
    write("sdxl", here / "my xl.safetensors")
    assert sfumato("generate", "a red apple", "--model", "my xl.safetensors", *COMMON, "--out", "a.png") == 0
    assert capsys.readouterr().out == "a.png\n"
    recipe = read_recipe(here / "a.png")
    assert (recipe.model, recipe.width, recipe.guidance_scale) == ("my xl.safetensors", 64, 5.0)
    assert recipe.told == {"zeros": True}
    assert len(recipe.model_sha256 or "") == 64

    common = ["generate", "a red apple", "--model", "my xl.safetensors", *COMMON, "--clip-skip", 1]
    assert sfumato(*common, "--negative", "blur", "--out", "b.png") == 0
    assert read_recipe(here / "b.png").pixels_sha256 != recipe.pixels_sha256
    assert read_recipe(here / "b.png").told == {}
    capsys.readouterr()
    for picture in ("a.png", "b.png"):
        assert sfumato("replay", picture) == 0
        assert capsys.readouterr().out == "bit-identical\n"
    (here / "my xl.safetensors").rename(here / "renamed.safetensors")
    assert sfumato("replay", "a.png") == 2
    assert "made with the model 'my xl.safetensors', and no such folder or file is here" in capsys.readouterr().err
    assert sfumato("replay", "a.png", "--model", "renamed.safetensors") == 0


def test_what_can_t_be_drawn_from_is_said_in_one_line(here: Path, capsys: OUTPUT) -> None:
    write("sd1-inpaint", here / "inpaint.safetensors")
    assert sfumato("generate", "a red apple", "--model", "inpaint.safetensors", *COMMON) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: this model is of Stable Diffusion 1, inpainting, which draws from a prompt and a picture and a mask"
    )
    assert said.count("\n") == 1

    write("sdxl", here / "whole.safetensors")
    tensors = {key: tensor for key, tensor in load_file("whole.safetensors").items() if key.startswith("model.")}
    save_file(tensors, "unet.safetensors")
    assert sfumato("generate", "a red apple", "--model", "unet.safetensors", *COMMON) == 2
    assert capsys.readouterr().err == (
        "error: unet.safetensors brings no vae and no text_encoder and no text_encoder_2 that is known; pass vae=… with that of "
        "another model of Stable Diffusion XL\n"
    )
