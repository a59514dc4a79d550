"""The memory that this process has of its own, and giving back what it no longer uses."""

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")

PROCESS = 180 * 2**20
"""Bytes that Python, PyTorch and Sfumato have of their own before any model; torch 2.13 on Linux: 171 MiB, and a little for what a run keeps."""

WORKING = 21 * 2**20
"""Bytes that oneDNN and MKL take to work in, beside what PyTorch sees: 20 to 27 MiB at every stage that was measured."""

# Of glibc's malloc.h: the size from which memory is asked of the system, and given back to it, at once.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
AT_ONCE = 1 << 20
"""Bytes of a tensor from which on it is given back at once, where that was asked for."""

KEPT_FREE = 128 * 2**20
"""Bytes that glibc keeps unless that was asked for, as measured: it gives back what lies at its heap's end, and nothing between."""


def anonymous() -> int | None:
    """Bytes of anonymous memory that the process has now (RssAnon); None where the system does not say."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def give_back_at_once() -> bool:
    """Have freed tensors given back to the system, not kept for the next ones; whether that can be done here.

    It costs time: memory that comes from the system is filled with zeros first.
    """
    library = _libc()
    if library is None:
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, AT_ONCE)) and bool(library.mallopt(M_TRIM_THRESHOLD, AT_ONCE))


def give_back() -> None:
    """Give back now what lies free between things that are in use."""
    library = _libc()
    if library is not None:
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


@cache
def _libc() -> Any:
    """The C library, where it is glibc's; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
