"""`--safety` as a person uses it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato import bundled_model
from sfumato.cli.app import run
from sfumato.images import read_embedded, read_recipe

OUTPUT = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(*arguments: object) -> int:
    return run(["generate", "cat", "--steps", "1", "--seed", "1", "--quiet", *map(str, arguments)])


def test_a_model_without_a_checker_is_flagged_and_nothing_is_changed(
    tiny_folder: Path, here: Path, capsys: OUTPUT
) -> None:
    assert generate("--model", tiny_folder, "--safety", "off", "--out", "off.png") == 0
    assert generate("--model", tiny_folder, "--out", "plain.png") == 0
    assert generate("--model", tiny_folder, "--safety-threshold", 0, "--out", "low.png") == 0
    err = capsys.readouterr().err
    assert err.startswith("note: the safety filter scores this picture ")
    assert err.endswith("its threshold is 0; it is left as it is (--safety off turns it off)\n")
    assert err.count("\n") == 1
    off, plain, low = (read_recipe(here / f"{name}.png") for name in ("off", "plain", "low"))
    assert [recipe.safety for recipe in (off, plain, low)] == ["off", "passed", "flagged"]
    assert len({recipe.pixels_sha256 for recipe in (off, plain, low)}) == 1
    assert plain.safety_scores == low.safety_scores
    assert run(["inspect", "low.png"]) == 0
    shown = capsys.readouterr().out
    for line in ("safety ", "safety by", "safety mode", "safety threshold", '"nsfw": '):
        assert line in shown
    assert f"Safety: flagged, NSFW score: {low.safety_scores['nsfw']}" in (read_embedded(here / "low.png")[1] or "")


def test_the_help_says_how_it_is_turned_on_and_off(capsys: OUTPUT) -> None:
    assert run(["generate", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "--safety",
        "block (black instead), blur, flag (only say so), or off",
        "--safety-threshold",
        "--no-safety",
    ):
        assert words in said


@pytest.mark.parametrize("mode", ["block", "blur"])
def test_a_flagged_picture_is_kept_back_everywhere(tiny_folder: Path, here: Path, capsys: OUTPUT, mode: str) -> None:
    files = ["--out", "a.png", "--grid", "1x2", "--animate", "a.gif", "-n", "2"]
    assert generate("--model", tiny_folder, "--safety", mode, "--safety-threshold", 0, *files) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == ["a-1.png", "a-2.png", "a-grid.png"]
    assert "a-1.gif is not written" in output.err
    with Image.open(here / "a-1.png") as picture, Image.open(here / "a-grid.png") as grid:
        assert (np.asarray(picture).max() == 0) == (mode == "block")
        assert np.array_equal(np.asarray(grid)[:, : picture.width], np.asarray(picture))
    (here / tiny_folder.name).symlink_to(tiny_folder)
    assert run(["replay", "a-1.png", "--quiet"]) == 0
    assert capsys.readouterr().out == "bit-identical\n"


def test_what_is_only_flagged_is_filmed(tiny_folder: Path, here: Path) -> None:
    common = ["--model", tiny_folder, "--safety", "flag", "--safety-threshold", 0]
    assert generate(*common, "--out", "a.png", "--animate", "a.gif") == 0
    assert (here / "a.gif").exists()


def test_the_bundled_model_is_judged_only_when_asked(here: Path, capsys: OUTPUT) -> None:
    assert generate("--out", "a.png", "--safety-threshold", 0.1) == 0
    assert "judged only with --safety; --safety-threshold is not used" in capsys.readouterr().err
    assert read_recipe(here / "a.png").safety == "off"
    assert generate("--out", "b.png", "--safety", "flag", "--model", bundled_model()) == 0
    assert read_recipe(here / "b.png").safety_by == "filter"


def test_a_models_own_checker_has_thresholds_of_its_own(
    tiny_folder_with_checker: Path, here: Path, capsys: OUTPUT
) -> None:
    for options in ([], ["--safety", "blur"]):
        out = ["--safety-threshold", 0.9, "--out", f"{len(options)}.png"]
        assert generate("--model", tiny_folder_with_checker, *options, *out) == 0
        assert "by thresholds of its own; --safety-threshold is not used" in capsys.readouterr().err
        assert read_recipe(here / f"{len(options)}.png").safety_by == "model"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--safety", "blok"], "did you mean block"),
        (["--safety-threshold", "2"], "--safety-threshold must be from 0 to 1"),
        (["--safety", "off", "--safety-threshold", "0.5"], "--safety-threshold is used only with --safety block"),
        (["--safety", "block", "--no-safety"], "contradict"),
    ],
)
def test_bad_input_is_one_line(tiny_folder: Path, here: Path, capsys: OUTPUT, options: list[str], message: str) -> None:
    assert generate("--model", tiny_folder, *options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(here.iterdir()) == []
