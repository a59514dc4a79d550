import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfumato.cli.app import app, run
from sfumato.errors import SfumatoError
from sfumato.version import __version__

HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "tokenizers",
    "ftfy",
    "safetensors",
    "huggingface_hub",
    "sfumato.pipeline",
    "sfumato.training",
)


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group of commands, as the words that call it."""
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


def test_help_imports_nothing_heavy() -> None:
    """Of every command: one process runs them one after the other, since what one of them imports stays."""
    asked = [[*words, "--help"] for words in commands(typer.main.get_command(app))] + [["--version"], [], ["data"]]
    assert ["train", "vae", "--help"] in asked
    script = (
        "import sys; from sfumato.cli.app import run\n"
        f"for arguments in {asked!r}:\n"
        f"    code = run(arguments)\n"
        f"    print('after', arguments, [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    told = [line for line in result.stdout.splitlines() if line.startswith("after ")]
    assert told == [f"after {arguments!r} [] 0" for arguments in asked]
    assert result.stderr == ""


def test_samplers_and_schedules_are_listed_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    from sfumato.diffusion.samplers import SAMPLERS, SCHEDULES, SPACINGS

    assert run(["samplers"]) == 0
    listed = capsys.readouterr().out
    for info in SAMPLERS.values():
        (line,) = [line for line in listed.splitlines() if line.split()[:1] == [info.name]]
        order = "–" if info.order is None else str(info.order)
        cells = [cell for cell in line.split("  ") if cell.strip()]
        assert [cell.strip() for cell in cells[1:4]] == [info.title, order, str(info.evaluations_per_step)]
        assert line.rstrip().endswith(info.paper)
        assert all(alias in line for alias in info.aliases)
    assert all(name in listed.splitlines()[-1] for name in SPACINGS)
    assert run(["samplers", "--schedules"]) == 0
    listed = capsys.readouterr().out
    assert all(info.title in listed and info.paper in listed for info in SCHEDULES.values())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"sfumato {__version__}\n"


def test_the_module_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "sfumato", "--version"], check=True, capture_output=True, text=True)
    assert result.stdout == f"sfumato {__version__}\n"
    (script,) = entry_points(group="console_scripts", name="sfumato")
    assert script.value == "sfumato.cli:main"


def test_no_command_and_groups_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (([], "generate"), (["data"], "build"), (["train"], "base")):
        assert run(arguments) == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "no prompt; say what to draw"),
        (["generate", "  "], "no prompt; say what to draw"),
        (["generate", "cat", "-n", "0"], "-n is 0; expected 1 or more"),
        (["generate", "cat", "--seed", "-1"], "the seed is -1"),
        (["generate", "cat", "--size", "512"], "expected WIDTHxHEIGHT"),
        (["generate", "cat", "--grid", "2by2"], "expected ROWSxCOLUMNS"),
        (
            ["generate", "cat", "dog", "bird", "--grid", "2x2"],
            "a grid of 2x2 takes 4 pictures, and 3 prompts × 1 make 3",
        ),
        (["generate", "cat", "--out", "cat.bmp"], "expected one of .png"),
        (["generate", "cat", "--animate", "cat.mp4"], "expected one of .gif"),
        (["generate", "cat", "--steps", "many"], "Invalid value for '--steps'"),
        (["generate", "cat", "--bogus"], "No such option"),
        (["replay"], "Missing argument"),
        (["replay", "none.png"], "no picture at none.png"),
        (["inspect", "none.png"], "there is no none.png"),
        (["draw"], "No such command"),
        (["train", "vae", "bogus-config", "--out", "run"], "bogus-config"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err
    assert output.err.count("\n") == 1


def test_long_messages_and_brackets_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "[bold]x[/bold] :smile: " + "word " * 100 + "end"

    def fail(*args: object, **options: object) -> None:
        raise SfumatoError(message)

    monkeypatch.setattr("sfumato.cli.app.app", fail)
    assert run([]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_bug_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sfumato.cli.app.app", fail)
    with pytest.raises(ZeroDivisionError):
        run([])


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.cli.app.app", interrupt)
    assert run([]) == 130
    assert capsys.readouterr().err == "stopped; what was finished is saved, and nothing half-written is left\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    result = subprocess.run(
        f"{sys.executable} -m sfumato --help | true", shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in result.stderr


def test_python_is_the_one_that_is_promised() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sfumato": "sfumato.cli:main"}
