import subprocess
import sys

import pytest

from sfumato import allocator
from sfumato.allocator import reusing_memory

# In a process of its own: what tests before it left on the heap, and in which thread they ran, is not what is measured. With the engine
# imported, as it is wherever memory is kept: in a fresh process glibc's caches for small blocks are empty and take the trimmings of aligned
# blocks, so that a freed one is a few bytes too small for the next of its size.
SCRIPT = """
import resource
import torch
import sfumato.engine
from sfumato.allocator import reusing_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def touched(times):
    before = faults()
    for _ in range(times):
        torch.empty(100 << 18).fill_(1.0)
    return faults() - before

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

outside = touched(4)
with reusing_memory():
    with reusing_memory():
        touched(2)
    inside, within = touched(4), held()
given_back = within - held()
print(outside, inside, touched(4), given_back)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(allocator._glibc() is None, reason="another C library, or MALLOC_… is set")
def test_memory_is_taken_again_inside_and_given_back_after():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    outside, inside, after, given_back = map(int, done.stdout.split())
    assert inside < outside / 2
    # One of the four at least is taken anew; the others may find its place free on the heap, which depends on what lies behind it.
    assert after > outside / 5
    assert given_back > 50 << 20


def test_elsewhere_than_with_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    monkeypatch.setattr(allocator, "_set", lambda *_: pytest.fail("there is nothing to set"))
    assert not allocator.is_reusing()
    with reusing_memory(), allocator.apart():
        assert allocator.is_reusing()
    assert not allocator.is_reusing()


def test_what_the_user_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    assert allocator._glibc.__wrapped__() is None
