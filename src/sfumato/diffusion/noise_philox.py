"""The normal numbers that CUDA's generator makes, computed on the CPU: Philox 4×32-10 and Box–Muller.

A counter-based generator: the number at any place is a function of seed, draw and place, so one row of a batch costs no more than
itself. Sources: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; cuRAND's `curand_normal4`; PyTorch's
`distribution_elementwise_grid_stride_kernel`, which says which thread makes which number.
"""

from math import prod
from operator import index

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and √3 - 1, in 32 bits
ROUNDS = 10

BLOCK = 256
"""Threads of a block of PyTorch's kernel."""
UNROLLED = 4
"""Numbers that a thread of it makes at a time: the four of one Philox counter."""

MOST = 2**48
"""Numbers of a draw that are not tried."""

Words = NDArray[np.uint32]

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_TO_UNIT = float(np.float32(2.0**-32))
_TO_ANGLE = float(np.float32(2.3283064e-10 * 6.2831855))  # 2π / 2**32, as cuRAND rounds it


def philox4x32(counter: tuple[Words, Words, Words, Words], seed: int) -> tuple[Words, Words, Words, Words]:
    """Four random 32-bit words for each counter of four words, under the 64-bit key `seed`. Source: Salmon et al., section 3.3."""
    a, b, c, d = (word.astype(np.uint64) for word in counter)
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = (right >> _32) ^ b ^ np.uint64(keys[0]), right & _LOW
        c, d = (left >> _32) ^ d ^ np.uint64(keys[1]), left & _LOW
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, KEY_STEPS, strict=True)]
    return a.astype(np.uint32), b.astype(np.uint32), c.astype(np.uint32), d.astype(np.uint32)


def box_muller(radius: Words, angle: Words, cosine: NDArray[np.bool_]) -> NDArray[np.float32]:
    """One normal number for each pair of words: the sine's, or where `cosine` is true the cosine's.

    In float64, rounded once, as AUTOMATIC1111's web UI has it; a card computes in float32 and differs in the last digits.
    """
    u = radius * _TO_UNIT + _TO_UNIT / 2
    v = angle * _TO_ANGLE + _TO_ANGLE / 2
    return (np.sqrt(-2.0 * np.log(u)) * np.where(cosine, np.cos(v), np.sin(v))).astype(np.float32)


class PhiloxGenerator:
    """Draws what `torch.randn(shape, device="cuda")` draws after `torch.manual_seed(seed)`, draw after draw.

    A card has `threads` at work at once: its multiprocessors times the threads that one holds. Each makes one number of the first
    `threads`, one of the next, and so on: four numbers of one counter, then the next counter's. With `threads` None there is one for
    every number, as in the web UI's "NV" source; both are the same as long as a draw has no more numbers than the card has threads.
    Raises OverflowError for a seed of more than 64 bits, TypeError for one that is no whole number.
    """

    def __init__(self, seed: int, *, threads: int | None = None, draws: int = 0) -> None:
        if not -(2**63) <= index(seed) < 2**64:
            raise OverflowError(f"the seed {seed} has more than 64 bits")
        self.seed = index(seed) % 2**64
        self.threads = threads
        self.draws = draws  # Philox counters that are used up, in each thread

    def row(self, shape: tuple[int, ...], which: int, count: int) -> Tensor:
        """Row `which` of the next draw of `count` rows of `shape`: float32, on the CPU."""
        numbers = prod(shape)
        total = numbers * count
        if total >= MOST:
            raise MemoryError(f"{total} numbers are more than any memory holds")
        blocks = -(-total // BLOCK)
        if self.threads is not None:
            blocks = min(self.threads // BLOCK, blocks)
        at_once = blocks * BLOCK
        place = np.arange(which * numbers, (which + 1) * numbers, dtype=np.uint64)
        turn = place // np.uint64(at_once)
        thread = place % np.uint64(at_once)
        counter = np.uint64(self.draws) + turn // np.uint64(UNROLLED)
        x, y, z, w = philox4x32((_low(counter), _high(counter), _low(thread), _high(thread)), self.seed)
        of_four = turn % np.uint64(UNROLLED)
        second = of_four >= 2
        noise = box_muller(np.where(second, z, x), np.where(second, w, y), of_four % np.uint64(2) == 1)
        self.draws += (total - 1) // (at_once * UNROLLED) + 1
        return torch.as_tensor(noise.reshape(shape))

    def state(self) -> bytes:
        """16 bytes, as `torch.Generator("cuda").get_state()` has them: the seed, and four times the counters that are used up."""
        return self.seed.to_bytes(8, "little") + (self.draws * UNROLLED).to_bytes(8, "little")

    @classmethod
    def of_state(cls, state: bytes, *, threads: int | None = None) -> "PhiloxGenerator":
        """The generator that stands where one of CUDA's with that state stands. Raises ValueError for other bytes."""
        offset = int.from_bytes(state[8:], "little")
        if len(state) != 16 or offset % UNROLLED or offset >= 2**63:
            raise ValueError("expected 16 bytes, a seed and an offset that is a multiple of 4")
        return cls(int.from_bytes(state[:8], "little"), threads=threads, draws=offset // UNROLLED)


def _low(number: NDArray[np.uint64]) -> Words:
    return (number & _LOW).astype(np.uint32)


def _high(number: NDArray[np.uint64]) -> Words:
    return (number >> _32).astype(np.uint32)
