"""Nothing that a config says is imported, run or fetched: it is opened as data, or refused in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "tried", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["beside", "in the place of values"]
)
def test_a_class_or_an_address_in_a_config_is_only_a_text(
    tiny_folder_with_checker: Path, tmp_path: Path, tried: int
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder_with_checker, folder)
    before = {file.relative_to(folder) for file in folder.rglob("*")}
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("configs.py")), str(folder), str(tried)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr[-3000:]
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["findings"] == []
    assert sum(report["outcomes"].values()) > (400 if tried else 100)
    assert min(report["outcomes"]["opened"], report["outcomes"]["ConfigError"]) > 20
    assert not list(tmp_path.rglob("pwned"))
    assert not list(folder.rglob("*.pyc"))
    assert {file.relative_to(folder) for file in folder.rglob("*.json")} <= before
