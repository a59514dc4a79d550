"""Pages of files that are mapped into memory: given back where nobody has written to them, and read from the file again where they are wanted."""

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

_DONTNEED = 4  # MADV_DONTNEED of Linux
_MAPS = Path("/proc/self/smaps")


ENOUGH = 1 << 28
"""Bytes of tensors that wait before their pages are given back: each time takes a look at what the system says of them."""


class Leaving:
    """Tensors that something else was made of, which stands in for them: their pages in files are given back, many at a time."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._waiting = 0

    def add(self, tensor: Tensor) -> None:
        """Give back the pages of one, now or later."""
        self._tensors.append(tensor.detach())
        self._waiting += tensor.nbytes
        if self._waiting >= ENOUGH:
            forget_pages(self._tensors)
            self._tensors, self._waiting = [], 0


def forget_pages(tensors: Sequence[Tensor]) -> int:
    """Give back the whole pages of tensors that lie in mapped files, as the files have them; returns how many bytes that were.

    Those of a mapping in which anything was written are kept, and all of them where the system does not say: it would be lost.
    """
    if not sys.platform.startswith("linux") or not tensors:
        return 0
    try:
        libc, files = ctypes.CDLL(None, use_errno=True), _untouched()
    except OSError:
        return 0
    given = 0
    for tensor in tensors:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and any(start <= first and last <= end for start, end in files):
            given += (last - first) * (
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED) == 0
            )
    return given


def _untouched() -> list[tuple[int, int]]:
    """Where the mappings of files lie that have no page which is not the file's."""
    found: list[tuple[int, int]] = []
    span, anonymous = None, 0
    for line in os.fsdecode(_MAPS.read_bytes()).splitlines():
        words = line.split()
        if not words[0].endswith(
            ":"
        ):  # the line that begins a mapping: from-to, permissions, offset, device, inode, path
            start, end = (int(part, 16) for part in words[0].split("-"))
            span = (start, end) if len(words) > 4 and words[4] != "0" else None
        elif words[0] == "Anonymous:":
            anonymous = int(words[1])
        elif words[0] == "Swap:" and span is not None:
            # A page that was written to counts as anonymous, in memory or swapped out.
            if anonymous == 0 and int(words[1]) == 0:
                found.append(span)
            span = None
    return found
