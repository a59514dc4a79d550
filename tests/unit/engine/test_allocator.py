import resource
import sys

import pytest
import torch

from sfumato.engine import allocator
from sfumato.engine.allocator import reusing_memory

BLOCK = 100 << 18  # 100 MiB of float32


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def touched(times):
    """Page faults of filling a large block so many times, each time freed."""
    before = faults()
    for _ in range(times):
        torch.empty(BLOCK).fill_(1.0)
    return faults() - before


@pytest.mark.skipif(allocator._glibc() is None, reason="another C library, or MALLOC_… is set")
def test_a_block_that_was_freed_is_taken_again():
    outside = touched(4)
    with reusing_memory():
        touched(2)
        inside = touched(4)
    assert inside < outside / 2  # small blocks in between may have it extend the heap once more
    # Afterwards it is as before: given back, and mapped anew.
    assert touched(4) > outside / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(allocator._glibc() is None, reason="another C library, or MALLOC_… is set")
def test_memory_is_given_back_when_the_last_block_ends():
    def held():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    with reusing_memory():
        with reusing_memory():
            torch.empty(BLOCK).fill_(1.0)
        within = held()
    assert held() < within - (50 << 20)


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with reusing_memory():
        assert allocator._inside == 0


def test_what_the_user_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    assert allocator._glibc.__wrapped__() is None
