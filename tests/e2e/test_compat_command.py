"""`sfumato generate --compat`: what it sets, and what goes before it."""

from pathlib import Path

import pytest

from sfumato.cli.app import run
from sfumato.images import read_recipe


def drawn(folder: Path, model: Path, *options: str) -> object:
    path = folder / f"{len(list(folder.iterdir()))}.png"
    common = ["--model", str(model), "--steps", "2", "--seed", "1", "--out", str(path)]
    assert run(["generate", "a (fox:1.2)", *common, *options]) == 0
    return read_recipe(path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--compat", "a1111", "--sampler", "DPM++ 2M"], ("nv", "a1111", "down", "dpmpp_2m", "KDiffusionScheduler")),
        (["--compat", "a1111", "--rng", "cpu", "--emphasis", "comfy"], ("cpu", "comfy", "down", "plms", "KDiffusionScheduler")),
        (["--compat", "diffusers", "--sampler", "Euler"], ("cpu", "none", "nearest", "euler", "EulerDiscreteScheduler")),
        ([], ("cpu", "a1111", "nearest", "plms", "PNDMScheduler")),
    ],
)  # fmt: skip
def test_what_is_set(tiny_folder: Path, tmp_path: Path, options: list[str], expected: tuple[str, ...]) -> None:
    recipe = drawn(tmp_path, tiny_folder, *options)
    found = (recipe.rng, recipe.emphasis, recipe.rounding, recipe.sampler, recipe.scheduler["_class_name"])  # type: ignore[attr-defined]
    assert found == expected
    assert run(["replay", str(tmp_path / "0.png"), "--model", str(tiny_folder)]) == 0


def test_a_schedule_that_is_asked_for_stays(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = drawn(tmp_path, tiny_folder, "--compat", "a1111", "--sampler", "DPM++ 2M", "--schedule", "leading")
    assert recipe.scheduler["schedule"] == "leading"  # type: ignore[attr-defined]


def test_a_wrong_name_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a fox", "--compat", "comfy", "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err == "error: unknown compat 'comfy'; known: a1111, diffusers.\n"
