"""What the documents say is so: examples run, options are documented, links lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfumato.cli.app import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    for child, inner in children.items():
        yield from commands(inner, f"{name} {child}")
    if not children:
        yield name, command


COMMANDS = dict(commands(typer.main.get_command(app), "sfumato"))
REFERENCE = (ROOT / "docs/command.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    heading = re.search(rf"^## .*{re.escape(name)}\b.*?$(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert heading is not None, f"docs/command.md has no section on `{name}`"
    for option in COMMANDS[name].params:
        for flag in (flag for flag in option.opts if flag.startswith("-") and flag != "--help"):
            assert f"`{flag}`" in heading[1], f"docs/command.md does not tell of {flag} of `{name}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "apple.png").stat().st_size > 500
