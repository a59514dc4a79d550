"""What becomes of memory that is let go of: kept for the next layer, which is fast, or given back at once, which is small.

glibc maps every large block anew and unmaps it when it is freed; each page of it is then zeroed at the first touch, which took four fifths
of the time of a U-Net's elementwise layers where it was measured. Inside `reusing_memory` it keeps them. Elsewhere than with glibc there
is nothing to do.
"""

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_NEVER = 2**31 - 1

# What glibc arrives at by itself in a program that frees large blocks: its largest threshold, and twice that.
_USUAL = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20), (_TOP_PAD, 0))
_REUSING = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, 16 << 20))

AT_ONCE = 1 << 20
"""Bytes of a block from which on it is given back at once, where that was asked for."""
_AT_ONCE = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, AT_ONCE), (_TRIM_THRESHOLD, AT_ONCE), (_TOP_PAD, 0))

_lock = threading.Lock()
_inside = 0


@contextmanager
def reusing_memory() -> Generator[None]:
    """Inside the block, freed memory stays with the process; when the last of the blocks ends, it is given back.

    It is left as it is where the user has set glibc's own variables (MALLOC_…).
    """
    libc = _glibc()
    _enter(libc)
    try:
        yield
    finally:
        _leave(libc)


def is_reusing() -> bool:
    """Whether the process is inside `reusing_memory`, where room is less dear than time."""
    return _inside > 0


def give_back_at_once() -> bool:
    """Have freed tensors given back to the system, not kept for the next ones, until `reusing_memory` begins or ends; whether that can be done."""
    libc = _glibc()
    if libc is not None:
        _set(libc, _AT_ONCE)
    return libc is not None


@contextmanager
def apart() -> Generator[None]:
    """Inside the block large tensors are mapped by themselves, also where freed memory is kept otherwise: for what is made to last.

    What lasts would lie between what comes and goes, and keep the room beside it from being used as one.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _set(libc, ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, AT_ONCE)))
    try:
        yield
    finally:
        with _lock:
            _set(libc, _REUSING if _inside else _USUAL)


def give_back() -> None:
    """Give back now what lies free between things that are in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _enter(libc: ctypes.CDLL | None) -> None:
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1 and libc is not None:
            _set(libc, _REUSING)


def _leave(libc: ctypes.CDLL | None) -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0 and libc is not None:
            _set(libc, _USUAL)
            libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, options: tuple[tuple[int, int], ...]) -> None:
    for option, value in options:
        libc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc and the user has not told it how to allocate."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # on Windows there is no such library
        return None
    return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
