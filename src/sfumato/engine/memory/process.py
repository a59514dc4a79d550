"""The memory that this process has of its own."""

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")

PROCESS = 180 * 2**20
"""Bytes that Python, PyTorch and Sfumato have of their own before any model; torch 2.13 on Linux: 171 MiB, and a little for what a run keeps."""

WORKING = 21 * 2**20
"""Bytes that oneDNN and MKL take to work in, beside what PyTorch sees: 20 to 27 MiB at every stage that was measured."""

KEPT_FREE = 128 * 2**20
"""Bytes that glibc keeps unless that was asked for, as measured: it gives back what lies at its heap's end, and nothing between."""


def anonymous() -> int | None:
    """Bytes of anonymous memory that the process has now (RssAnon); None where the system does not say."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
