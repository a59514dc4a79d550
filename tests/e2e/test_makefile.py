"""The Makefile's own work, on stand-ins for Python and the command: what is typed is what is drawn, and what is missing is said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, as from a plain shell."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PROMPT"))}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        capture_output=True, text=True, check=False, env={**plain, **environment},
    )  # fmt: skip


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that is ready, whose command prints its arguments, one a line between brackets."""
    script(tmp_path / "venv/bin/sfumato", """for word; do printf '[%s]' "$word"; done""")
    (tmp_path / "venv/.core").touch()
    return tmp_path / "venv"


@pytest.mark.parametrize(
    "prompt",
    [
        "a red apple, 3d style",
        'a "big" $$HOME apple',
        "a $5 bill",
        "a $HOME, $(HOME) and ${HOME}",
        "`touch drawn` $(shell touch drawn) $$(touch drawn)",
        "it's # not \\ a ; comment \" | & <b> *",
        "--steps",
        "two\nlines",
        "猫 🍎",
    ],
)
def test_the_prompt_is_drawn_as_it_is_typed(environment: Path, tmp_path: Path, prompt: str) -> None:
    result = make("generate", f"VENV={environment}", f"PROMPT={prompt}", "ARGS=--seed 1 -n 4")
    assert (result.stdout, result.stderr) == (f"[generate][--seed][1][-n][4][--][{prompt}]", "")
    assert not (ROOT / "drawn").exists()
    assert make("generate", f"VENV={environment}", PROMPT=prompt).stdout == f"[generate][--][{prompt}]"


def test_there_is_a_prompt_to_begin_with(environment: Path) -> None:
    assert make("generate", f"VENV={environment}").stdout == "[generate][--][a red apple, 3d style]"


def test_a_python_that_cannot_make_environments_is_said_in_one_line(tmp_path: Path) -> None:
    """Debian's, without its package python3-venv: nothing half-made is left to trip over the second time."""
    python = script(
        tmp_path / "python",
        f"""case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac""",
    )
    for _ in range(2):
        result = make("generate", f"VENV={tmp_path}/venv", f"PYTHON={python}")
        assert result.returncode == 2
        said = [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]
        assert len(said) == 1
        assert "apt install python3-venv" in said[0]
        assert not (tmp_path / "venv").exists()


def test_an_environment_without_pip_is_made_anew(tmp_path: Path) -> None:
    """What an earlier `python -m venv` that failed half-way leaves: a Python, and no pip."""
    script(tmp_path / "venv/bin/python", "exit 1")
    ready = "printf '#!/bin/sh\\nexit 0\\n' > \"$3/bin/python\""
    python = script(tmp_path / "python", f"""test "$2" != venv || {{ echo made; {ready}; }}""")
    script(tmp_path / "venv/bin/sfumato", "echo drawn")
    result = make("generate", f"VENV={tmp_path}/venv", f"PYTHON={python}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "made"
    assert result.stdout.splitlines()[-1] == "drawn"
    assert make("generate", f"VENV={tmp_path}/venv", f"PYTHON={python}").stdout == "drawn\n"


def test_help_lists_the_targets() -> None:
    shown = make().stdout
    for target in ("help", "generate", "test", "check", "bench", "docs"):
        assert f"make {target} " in shown
