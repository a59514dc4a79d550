"""`--fast`, which may stand alone."""

from typing import Annotated

import pytest
import typer

from sfumato.cli.app import app as command
from sfumato.cli.app import run
from sfumato.cli.fast import SOUND, TakesFast


@pytest.mark.parametrize(
    ("words", "prompts", "fast"),
    [
        (["x"], ["x"], None),
        (["x", "--fast"], ["x"], [SOUND]),
        (["--fast", "a red apple"], ["a red apple"], [SOUND]),
        (["--fast", "A"], ["A"], [SOUND]),
        (["--fast", "--", "cache"], ["cache"], [SOUND]),
        (["--fast", "-n", "2", "x"], ["x"], [SOUND]),
        (["--fast", "cache:3", "--fast", "merge", "x"], ["x"], ["cache:3", "merge"]),
        (["--fast", "--fast", "cache:3", "x"], ["x"], [SOUND, "cache:3"]),
        (["--fast=merge:0.3", "x"], ["x"], ["merge:0.3"]),
        (["--", "x", "--fast"], ["x", "--fast"], None),
    ],
)
def test_what_follows_is_its_name_only_where_it_looks_like_one(
    words: list[str], prompts: list[str], fast: list[str] | None
) -> None:
    heard: list[object] = []
    app = typer.Typer()

    @app.command(cls=TakesFast)
    def draw(
        prompts: Annotated[list[str], typer.Argument()],
        fast: Annotated[list[str] | None, typer.Option()] = None,
        number: Annotated[int, typer.Option("-n")] = 1,
    ) -> None:
        heard.extend([prompts, fast])

    app(words, standalone_mode=False)
    assert heard == [prompts, fast]


@pytest.mark.parametrize("name", ["generate", "grid", "batch"])
def test_commands_take_it_so(name: str) -> None:
    assert isinstance(typer.main.get_command(command).commands[name], TakesFast)  # type: ignore[attr-defined]


def test_a_value_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a red apple", "--fast", "cache:x"]) == 2
    assert "--fast cache:x says no number" in capsys.readouterr().err
