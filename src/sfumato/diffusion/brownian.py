"""Noise between any two levels, read off one Brownian path that a seed determines.

Samplers of the SDE take the noise of a step from the path's increment over it: then a middle lies on the way to its end, and runs
of other step counts follow the same path. The path is a virtual Brownian tree (Li et al. 2020, arXiv:2001.01328, section 4): its increment over
the whole is known, that over each half is drawn by the Brownian bridge from a seed of the half's own, and so on down to millionths;
nothing is stored. Seeds, halving and rounding are those of torchsde's BrownianTree, so that pictures of other software come out.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Draw: TypeAlias = Callable[[int], Tensor]
"""A standard normal tensor for a seed of 32 bits."""

# torchsde's: the length below which nothing is told apart, and the words that seeds are hashed in.
_DIGITS = 6
_POOL = 24


class BrownianPath:
    """A Brownian motion over the levels from `low` to `high`, its noise drawn by `draw` from seeds that `seed` determines.

    Called with two levels it returns standard normal noise: the increment from the first to the second, divided by its std. Levels
    are taken in float32, as a tensor of sigmas holds them, and beyond the ends as the ends. Not less than 0 < low < high.
    Source: the path of K. Crowson's k-diffusion, BrownianTreeNoiseSampler, for the same seed; equal bit for bit where `draw` is torch.randn's.
    """

    def __init__(self, seed: int, low: float, high: float, draw: Draw) -> None:
        assert 0 <= low < high, "a path goes from a lower level to a higher one"
        self._seed = seed % 2**64
        self._draw = draw
        low, high = _float32(low), _float32(high)
        self._ends = round(low, _DIGITS), round(high, _DIGITS)
        self._whole = draw(self._seed_of()) * math.sqrt(high - low)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Standard normal noise of the way from `sigma` to `sigma_next`."""
        here, there = _float32(sigma), _float32(sigma_next)
        start, end = sorted(min(max(level, self._ends[0]), self._ends[1]) for level in (here, there))
        first, *rest = self._pieces(round(start, _DIGITS), round(end, _DIGITS), *self._ends, self._whole, 0, 0)
        increment = first
        for piece in rest:
            increment = increment + piece
        length = abs(torch.tensor(there, dtype=torch.float32) - torch.tensor(here, dtype=torch.float32))
        return (increment if there > here else -increment) / length.sqrt()

    def _pieces(
        self, start: float, end: float, left: float, right: float, increment: Tensor, place: int, depth: int
    ) -> Iterator[Tensor]:
        """The increments, from left to right, of the largest halves of halves of [left, right] that make up [start, end].

        `increment` is that over [left, right], which is number `place` of its depth.
        """
        if start <= left and end >= right:
            yield increment
            return
        middle = round((left + right) / 2, _DIGITS)
        length, before, after = 1 / (right - left), middle - left, right - middle
        # The bridge: given its ends, the middle is normal about the straight line between them.
        to_left = before * increment * length + math.sqrt(before * after * length) * self._draw(
            self._seed_of(place, depth)
        )
        if start < middle:
            yield from self._pieces(start, end, left, middle, to_left, 2 * place, depth + 1)
        if end > middle:
            yield from self._pieces(start, end, middle, right, increment - to_left, 2 * place + 1, depth + 1)

    def _seed_of(self, *node: int) -> int:
        """The seed of the whole, or of the node that is number `place` of its depth."""
        return int(np.random.SeedSequence(self._seed, spawn_key=node, pool_size=_POOL).generate_state(1)[0])


def float32_level(sigma: float) -> float:
    """The level that float32 makes of sigma by exp(log(sigma)), which may be its neighbour."""
    return float(torch.tensor(sigma, dtype=torch.float32).log().exp())


def float32_middle(sigma: float, sigma_next: float) -> float:
    """The level halfway in log sigma, in float32."""
    here, there = (-torch.tensor(level, dtype=torch.float32).log() for level in (sigma, sigma_next))
    return float((-(here + (there - here) * 0.5)).exp())


def _float32(sigma: float) -> float:
    return float(np.float32(sigma))
