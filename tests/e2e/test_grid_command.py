"""`sfumato grid` as a person runs it, on a tiny random model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfumato.cli.app import run
from sfumato.cli.grid_plan import read_definition
from sfumato.images import parse_recipes, pixels_sha256_of, read_embedded, read_recipe

OUTPUT = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipes(path: str) -> list[Any]:
    embedded, _ = read_embedded(Path(path))
    assert embedded is not None
    return parse_recipes(embedded)


def test_each_cell_is_what_generate_draws(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", str(tiny_folder), "--seed", "3"]
    axes = ["x=steps:1,2", "y=sampler:Euler,DPM++ 2M Karras"]
    assert run(["grid", *axes, "a cat", *common, "--keep", "cells", "--out", "sheet.png"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[-1] == "sheet.png"
    cells = [here / name for name in printed[:-1]]
    assert [cell.name for cell in cells][:2] == ["001-sampler-euler-steps-1.png", "002-sampler-euler-steps-2.png"]
    assert [(one.steps, one.sampler) for one in recipes("sheet.png")] == [(1, "euler"), (2, "euler"), (1, "dpmpp_2m"), (2, "dpmpp_2m")]  # fmt: skip
    assert run(["generate", "a cat", *common, "--steps", "2", "--sampler", "DPM++ 2M Karras", "--out", "one.png"]) == 0
    assert pixels_sha256_of(here / "one.png") == pixels_sha256_of(cells[3])
    assert read_recipe(here / "one.png") == read_recipe(cells[3])
    capsys.readouterr()
    assert run(["inspect", "sheet.png"]) == 0
    shown = capsys.readouterr().out
    assert "a sheet of `sfumato grid`" in shown
    assert "sampler:Euler,DPM++ 2M Karras" in shown
    assert str(tiny_folder.parent) not in shown


def test_a_sheet_is_drawn_again_with_what_is_said_besides(tiny_folder: Path, here: Path) -> None:
    (here / tiny_folder.name).symlink_to(tiny_folder)
    assert (
        run(["grid", "x=guidance:1-3:2", "a cat", "--model", str(tiny_folder), "--steps", "1", "--out", "a.html"]) == 0
    )
    assert run(["grid", "--replay", "a.html", "--out", "b.png"]) == 0
    assert run(["grid", "--replay", "b.png", "y=seed:1,2", "--steps", "2", "--out", "c.png"]) == 0
    assert read_definition(Path("a.html")) == read_definition(Path("b.png"))
    assert run(["inspect", "a.html"]) == 0
    assert [(one.guidance_scale, one.seed, one.steps) for one in recipes("c.png")] == [(1, 1, 2), (3, 1, 2), (1, 2, 2), (3, 2, 2)]  # fmt: skip
    assert recipes("b.png")[0].seed == read_definition(Path("a.html"))["options"]["seed"]
    (here / tiny_folder.name).unlink()
    assert run(["grid", "--replay", "b.png", "--out", "d.png"]) == 2  # its model is nowhere


def test_the_weight_of_a_lora_varies(tiny_folder: Path, here: Path) -> None:
    name, generator = (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        torch.Generator().manual_seed(0),
    )
    down, up = (torch.randn(*shape, generator=generator) for shape in ((4, 16), (16, 4)))
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, here / "ink.safetensors")
    common = ["--model", str(tiny_folder), "--seed", "1", "--steps", "1"]
    assert run(["grid", "x=lora-weight:0.5,2", "a", *common, "--lora", "ink.safetensors", "--out", "s.png"]) == 0
    assert run(["grid", "x=lora:,ink.safetensors:2", "a", *common, "--out", "t.png"]) == 0
    half, double = recipes("s.png")
    without, again = recipes("t.png")
    assert [one.adapters and dict(one.adapters[0].weights) for one in (half, double, without)] == [{"unet": 0.5}, {"unet": 2.0}, ()]  # fmt: skip
    assert again == double
    assert len({one.pixels_sha256 for one in (half, double, without)}) == 3
    assert run(["generate", "a", *common, "--lora", "ink.safetensors:0.5", "--out", "one.png"]) == 0
    assert read_recipe(here / "one.png") == half
    (here / "f").mkdir()
    (here / "ink.safetensors").rename(here / "f" / "ink.safetensors")
    (here / "f" / tiny_folder.name).symlink_to(tiny_folder)
    (here / "s.png").rename(here / "f" / "s.png")
    assert run(["grid", "--replay", "f/s.png", "--out", "u.png"]) == 0  # both are found beside the sheet
    assert recipes("u.png") == [half, double]


def test_pages_are_files_or_one_html(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    arguments = ["grid", "x=steps:1", "z=prompt:a=b,c", "a", "--model", str(tiny_folder), "--seed", "1"]
    assert run([*arguments, "--out", "s.png"]) == 0
    assert capsys.readouterr().out.split() == ["s-1.png", "s-2.png"]
    assert [recipes(name)[0].prompt for name in ("s-1.png", "s-2.png")] == ["b", "c"]
    assert run([*arguments, "--out", "s.html"]) == 0
    assert capsys.readouterr().out.split() == ["s.html"]
    assert (here / "s.html").read_text().count("<table>") == 2


def test_a_cell_that_fails_is_drawn_as_what_went_wrong(
    tiny_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: OUTPUT
) -> None:
    from sfumato.cli import painting
    from sfumato.errors import NumericalError

    draw = painting.draw_together

    def failing(pipe: Any, calls: Any, on_event: Any) -> Any:
        return [
            NumericalError("NaN at step 2") if call["num_inference_steps"] == 2 else draw(pipe, [call])[0]
            for call in calls
        ]

    monkeypatch.setattr(painting, "draw_together", failing)
    arguments = ["--model", str(tiny_folder), "--seed", "1"]
    assert run(["grid", "x=steps:1,2", "a cat", *arguments, "--out", "s.html"]) == 2
    output = capsys.readouterr()
    assert output.out == "s.html\n"
    assert output.err == "note: steps 2 failed: NaN at step 2\n"
    assert "could not be drawn</strong>NaN at step 2" in (here / "s.html").read_text()
    assert run(["grid", "x=steps:1,2", "a cat", *arguments, "--out", "s.png"]) == 2
    assert len(recipes("s.png")) == 1
    assert run(["grid", "x=steps:2", "a cat", *arguments, "--out", "none.png"]) == 2
    assert not (here / "none.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x=stepz:1", "a"], "unknown axis 'stepz'; did you mean steps"),
        (["x=sampler:Euler,Eulr", "a"], "unknown sampler 'Eulr'; did you mean Euler"),
        (["x=size:64x63", "a"], "height must be a positive multiple of 8, not 63; try 64"),
        (["x=model:/nowhere/at/all", "a"], "there is no model '/nowhere/at/all'"),
        (["x=steps:1", "a", "--out", "a.gif"], "has the suffix '.gif'; expected .png or .html"),
        (["--replay", "no.png"], "no picture at no.png"),
    ],
)
def test_refused_before_anything_is_drawn(here: Path, arguments: list[str], message: str, capsys: OUTPUT) -> None:
    assert run(["grid", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(here.rglob("*.png"))


def test_a_damaged_sheet_is_one_line(here: Path, capsys: OUTPUT) -> None:
    for held in ("{", "[]", '{"format": 2}', json.dumps({"format": 1, "prompt": "a", "matrix": None, "axes": {"x": "steps:1"}, "options": {"out": "/etc"}})):  # fmt: skip
        (here / "s.html").write_text(f'<script type="application/json" id="sfumato-grid">{held}</script>')
        assert run(["grid", "--replay", "s.html"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    (here / "s.html").write_text("<p>")
    assert run(["grid", "--replay", "s.html"]) == 2
    assert "holds no grid" in capsys.readouterr().err
