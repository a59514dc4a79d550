"""The examples of docs/noise.md, docs/metadata.md, docs/grids.md and docs/guidance.md run, in a folder of their own, in their order."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from sfumato import bundled_model
from sfumato.cli.app import run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("document", ["noise.md", "metadata.md", "grids.md", "guidance.md"])
def test_examples_run(document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL)
    assert {kind for kind, _ in blocks} == {"python", "bash"}
    names: dict[str, object] = {}
    with contextlib.chdir(tmp_path):
        for kind, block in blocks:
            if kind == "python":
                exec(compile(block, document, "exec"), names)
                continue
            for line in block.splitlines():
                words = shlex.split(line.replace("path/or/hub-id", str(bundled_model())), comments=True)[1:]
                assert run([*words, *(["--steps", "2"] if words[0] == "generate" else [])]) == 0, line
                shown = capsys.readouterr()
                assert "error" not in shown.err
                if words[0] == "replay" and "bit-identical" not in shown.out:
                    assert "can't be bit-identical" in shown.out, line
    assert all(path.stat().st_size for path in tmp_path.rglob("*.png"))
