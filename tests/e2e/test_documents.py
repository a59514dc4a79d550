"""What the documents say is so: examples run, options are documented, links lead somewhere."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfumato.cli.app import app, run

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
    heading = re.search(rf"^## [^\n]*{re.escape(name)}\b[^\n]*$(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert heading is not None, f"docs/command.md has no section on `{name}`"
    elsewhere: set[str] = set()
    if "other options of `generate`" in heading[1]:
        elsewhere = {flag for option in COMMANDS["sfumato generate"].params for flag in option.opts}
    for option in COMMANDS[name].params:
        if elsewhere.issuperset(option.opts):
            continue
        for flag in (flag for flag in option.opts if flag.startswith("-") and flag != "--help"):
            assert f"`{flag}`" in heading[1], f"docs/command.md does not tell of {flag} of `{name}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?: \"[^\"]*\")?\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_be_filled_in(document: Path) -> None:
    assert re.findall(r"\{[A-Z_]+\}", document.read_text(encoding="utf-8")) == []


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    tree = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("src/sfumato/\n")[1].split("```")[0]
    package, top, listed = ROOT / "src/sfumato", "", set[str]()
    for bars, name in re.findall(r"^([│├└─ ]+)(\S+)", tree, re.MULTILINE):
        inner = len(bars) > 4
        top = top if inner else name
        path = package / top / name if inner else package / name
        assert path.exists(), f"docs/architecture.md names {path.relative_to(ROOT)}"
        listed.add(str(path.relative_to(package)))
    there = {path.name for path in package.iterdir() if not path.name.startswith("__")}
    there |= {f"pipeline/{path.name}" for path in (package / "pipeline").glob("*.py") if path.name != "__init__.py"}
    assert there - listed == set(), "not in the tree of docs/architecture.md"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_named_are_there(document: Path) -> None:
    first_words = {name.split()[1] for name in COMMANDS}
    assert set(re.findall(r"`sfumato ([a-z][a-z-]*)", document.read_text(encoding="utf-8"))) - first_words == set()


README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def readers_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which somebody has run the README's Python."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    folder = tmp_path_factory.mktemp("reader")
    with contextlib.chdir(folder):
        exec(compile(example, "README.md", "exec"), {})
        yield folder


def test_the_readme_s_example_runs(readers_folder: Path) -> None:
    assert (readers_folder / "apple.png").stat().st_size > 500


def test_the_readme_s_commands_run(readers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sfumato ")]
    runnable = [words for words in commands if "path/or/hub-id" not in words]
    assert {words[0] for words in runnable} >= {"generate", "replay", "inspect", "samplers"}
    for words in runnable:
        assert run([*words, *(["--steps", "2"] if words[0] == "generate" else [])]) == 0, words
        output = capsys.readouterr()
        assert output.out
        assert "error" not in output.err
        if words[0] == "replay":
            assert output.out == "bit-identical\n"
