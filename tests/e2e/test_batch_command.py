"""`sfumato batch`: rows checked, drawn, resumed after a kill, and their failures reported."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli.app import run
from sfumato.images import pixels_sha256_of, read_recipe

OUTPUT = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def report(folder: Path) -> list[tuple[int, str]]:
    return [(row["row"], row["state"]) for row in map(json.loads, (folder / "report.jsonl").read_text().splitlines())]


def test_rows_are_drawn_once(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", str(tiny_folder), "--steps", "1", "--out", "o"]
    file = jobs(here / "jobs.jsonl", {"prompt": "a cat", "seed": 3, "number": 2}, {"prompt": "a dog", "Steps": 2}, {"prompt": "a dog", "steps": 2})  # fmt: skip
    assert run(["batch", file, *common, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to draw") == 4
    assert not (here / "o").exists()
    assert run(["batch", file, *common]) == 0
    paths = [here / name for name in capsys.readouterr().out.split()]
    assert [(one.seed, one.steps) for one in map(read_recipe, paths[:2])] == [(3, 1), (4, 1)]
    dogs = [read_recipe(path) for path in paths[2:]]
    assert dogs[0].seed != dogs[1].seed  # the same row twice is two pictures
    assert [one.steps for one in dogs] == [2, 2]
    times = [path.stat().st_mtime_ns for path in paths]
    # In another order, with one row more: only that is drawn.
    file = jobs(here / "more.jsonl", {"prompt": "a dog", "steps": 2}, {"prompt": "a fox", "seed": 1}, {"prompt": "a dog", "steps": 2}, {"prompt": "a cat", "seed": 3, "n": 2})  # fmt: skip
    assert run(["batch", file, *common]) == 0
    output = capsys.readouterr()
    assert len(output.out.split()) == 1
    assert output.err == "5 pictures: 1 drawn, 4 there already\n"
    assert [path.stat().st_mtime_ns for path in paths] == times
    assert report(here / "o") == [(1, "done"), (2, "done"), (3, "done"), (4, "done"), (4, "done")]
    assert run(["generate", "a cat", "--seed", "4", *common[:-1], "alone.png"]) == 0
    assert pixels_sha256_of(here / "alone.png") == pixels_sha256_of(paths[1])


def test_a_batch_that_is_killed_goes_on_where_it_was(tiny_folder: Path, here: Path) -> None:
    """Killed over and over, wherever it is: in the end every picture is there, whole, and was drawn once."""
    file = jobs(here / "jobs.jsonl", *({"prompt": f"a cat {n}", "seed": n} for n in range(12)))
    command = [
        sys.executable,
        "-m",
        "sfumato",
        "batch",
        file,
        "--model",
        str(tiny_folder),
        "--steps",
        "2",
        "--out",
        "o",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder, drawn = here / "o", dict[str, int]()
    for wanted in (1, 4, 7):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list(folder.glob("*.png"))) < wanted and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in folder.glob("*.png"):
            assert read_recipe(path).pixels_sha256 == pixels_sha256_of(path)
            assert drawn.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    before = len(drawn)
    assert 7 <= before < 12
    (folder / ".sfumato-0123456789abcdef.tmp").write_bytes(b"half")  # as a kill in the midst of writing leaves it
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert len(last.stdout.split()) == 12 - before
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}.items() >= drawn.items()
    assert sorted(read_recipe(path).seed or 0 for path in folder.glob("*.png")) == list(range(12))
    assert {path.name for path in folder.iterdir() if path.suffix != ".png"} == {"report.jsonl"}


def test_rows_that_fail_are_reported_and_the_others_drawn(
    tiny_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: OUTPUT
) -> None:
    from sfumato.cli import painting
    from sfumato.errors import NumericalError

    draw = painting.draw_together

    def failing(pipe: Any, calls: Any, on_event: Any) -> Any:
        return [NumericalError("NaN") if call["prompt"] == "bad" else draw(pipe, [call])[0] for call in calls]

    monkeypatch.setattr(painting, "draw_together", failing)
    file = jobs(here / "jobs.jsonl", {"prompt": "good"}, {"prompt": "bad"}, {"prompt": "fine"})
    arguments = ["batch", file, "--model", str(tiny_folder), "--steps", "1", "--out", "o"]
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert len(output.out.split()) == 2
    assert output.err == "note: row 2 failed: NaN\n3 pictures: 2 drawn, 1 failed\n"
    assert report(here / "o") == [(1, "done"), (2, "failed"), (3, "done")]
    monkeypatch.undo()
    os.chdir(here)
    assert run(arguments) == 0
    assert report(here / "o") == [(1, "done"), (2, "done"), (3, "done")]


def test_a_row_may_be_a_recipe(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    assert run(["generate", "a cat", "--model", str(tiny_folder), "--steps", "2", "--seed", "5", "--out", "a.png"]) == 0
    recipe = json.loads(read_recipe(here / "a.png").to_json())
    file = jobs(here / "jobs.jsonl", recipe, {**recipe, "seed": 6})
    capsys.readouterr()
    assert run(["batch", file, "--model", str(tiny_folder), "--out", "o"]) == 0
    first, second = (here / name for name in capsys.readouterr().out.split())
    assert pixels_sha256_of(first) == pixels_sha256_of(here / "a.png") != pixels_sha256_of(second)
    assert run(["batch", file, "--model", str(tiny_folder), "--out", "o", "--steps", "3"]) == 2
    assert "row 1 is a recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "prompt,step\na,1\n", "row 1: unknown column 'step'; did you mean steps"),
        ("a.csv", "prompt,steps\na,1\nb,many\n", "row 2: steps is 'many'; expected a whole number"),
        ("a.csv", "prompt,steps\na,1,2\n", "row 1: it has more places than the 2 columns"),
        ("a.csv", "prompt,sampler\na,\nb,Eulr\n", "row 2: unknown sampler 'Eulr'"),
        ("a.csv", "steps\n1\n", "row 1: it has no prompt"),
        ("a.csv", "prompt\n", "has no rows"),
        ("a.jsonl", '{"prompt": "a"}\n\n{"prompt": \n', "row 3: it is not JSON"),
        ("a.jsonl", '{"prompt": "a", "seed": true}\n', "row 1: seed is True; expected a whole number"),
        ("a.jsonl", '{"prompt": "a", "strength": 0.5}\n', "row 1: --strength needs --image"),
        ("a.jsonl", "[1]\n", "row 1: it is no JSON object"),
        ("a.txt", "", "has the suffix '.txt'; expected one of .jsonl, .csv"),
    ],
)
def test_rows_that_are_wrong_are_named_and_nothing_is_drawn(
    here: Path, name: str, text: str, message: str, capsys: OUTPUT
) -> None:
    (here / name).write_text(text)
    assert run(["batch", name, "--out", "o"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (here / "o").exists()


def test_a_file_that_is_another_s_is_left_as_it_is(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    file = jobs(here / "jobs.jsonl", {"prompt": "a", "seed": 1})
    arguments = ["batch", file, "--model", str(tiny_folder), "--steps", "1", "--out", "o"]
    assert run(arguments) == 0
    path = here / capsys.readouterr().out.strip()
    path.write_bytes(b"mine")
    assert run(arguments) == 2
    assert "is not the picture of row 1; move it away, or pass --overwrite" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"
    assert run([*arguments, "--overwrite"]) == 0
    assert read_recipe(path).seed == 1


def test_the_report_never_takes_the_place_of_the_rows(here: Path, capsys: OUTPUT) -> None:
    file = jobs(here / "report.jsonl", {"prompt": "a", "seed": 1})
    before = Path(file).read_text()
    assert run(["batch", file, "--out", "."]) == 2
    assert "give the rows another name or place" in capsys.readouterr().err
    assert Path(file).read_text() == before


def test_a_row_with_a_style_or_a_wildcard_is_another_when_their_files_change(here: Path, capsys: OUTPUT) -> None:
    (here / "lists").mkdir()
    file = jobs(here / "jobs.jsonl", {"prompt": "a __pet__", "wildcards": "lists"}, {"prompt": "a cat", "style": "ink"}, {"prompt": "a dog"})  # fmt: skip

    def planned(pets: str, ink: str) -> list[str]:
        (here / "lists" / "pet.txt").write_text(pets)
        (here / "styles.csv").write_text(f"name,prompt,negative_prompt\nink,{ink},\n")
        assert run(["batch", file, "--out", "o", "--dry-run"]) == 0
        return re.findall(r"\S+\.png", capsys.readouterr().out)

    before = planned("cat\ndog\n", "in ink")
    assert planned("cat\ndog\n", "in ink") == before
    changed = [one != other for one, other in zip(before, planned("cat\nfox\n", "in ink"), strict=True)]
    assert changed == [True, False, False]
    changed = [one != other for one, other in zip(before, planned("cat\ndog\n", "in blue ink"), strict=True)]
    assert changed == [False, True, False]
