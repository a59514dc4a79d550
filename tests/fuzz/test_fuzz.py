"""Two thousand damaged files of each kind, from a seed; `fuzz.py` opens as many as it is told to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--json"]


@pytest.mark.parametrize("kind", ["safetensors", "archive", "stream"])
def test_damaged_files_open_or_end_in_one_error_of_ours(kind: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*COMMAND, "--kinds", kind, "--files", "2000", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr[-3000:]
    report = json.loads(ran.stdout)[kind]
    assert report["findings"] == []
    assert ran.returncode == 0
    outcomes = report["outcomes"]
    assert outcomes.keys() <= {"opened", "CorruptFileError", "UnsafeFileError"}
    assert sum(outcomes.values()) == 2000
    assert outcomes["CorruptFileError"] > 200
    assert outcomes["opened"] > 100
    assert kind == "safetensors" or outcomes["UnsafeFileError"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "archive", "stream"])
def test_every_truncation_and_every_bit_of_a_small_file(kind: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*COMMAND, "--kinds", kind, "--files", "0", "--exhaustive", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert sum(json.loads(ran.stdout)[kind]["outcomes"].values()) > 2000
