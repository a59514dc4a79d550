"""Pages of mapped files go and come back; what was written to them never goes."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.pages import forget_pages

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the system for what Linux says")
SIZE = 32 << 20


def of_files() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    # Where the file lies in memory itself (tmpfs), its pages are counted as shared.
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssFile:", "RssShmem:")))


@pytest.fixture
def mapped(tmp_path: Path) -> torch.Tensor:
    save_file({"a": torch.arange(SIZE // 4, dtype=torch.int32)}, tmp_path / "model.safetensors")
    with open_tensors(tmp_path / "model.safetensors") as file:
        return file.get_tensor("a")


def test_pages_go_and_come_back(mapped: torch.Tensor) -> None:
    total, before = int(mapped.long().sum()), of_files()
    assert forget_pages([mapped]) > SIZE - (1 << 16)
    assert of_files() < before - SIZE // 2
    assert int(mapped.long().sum()) == total


def test_what_was_written_is_kept(mapped: torch.Tensor) -> None:
    mapped[5] = -7
    assert forget_pages([mapped]) == 0
    assert mapped[:7].tolist() == [0, 1, 2, 3, 4, -7, 6]


def test_memory_of_no_file_is_left_alone() -> None:
    own = torch.arange(1 << 20)
    assert forget_pages([own]) == 0
    assert int(own[-1]) == (1 << 20) - 1
    assert forget_pages([]) == 0
