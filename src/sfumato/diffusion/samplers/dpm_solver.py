"""The single steps of DPM-Solver, from which its fast and its adaptive form are made.

Each is a part of a conversation: it asks for what lies inside the step and returns x at its end. `noise_estimate` is that of the start.
Source: Lu et al. 2022, arXiv:2206.00927, section 3.2 and appendix B, divided by alpha: lambda = -log sigma, sigma_t = exp(-lambda).
"""

import math
from collections.abc import Generator
from typing import TypeAlias

from torch import Tensor

from sfumato.diffusion.conversation import Query

Inside: TypeAlias = Generator[Query, Tensor, Tensor]
"""A part of a sampler that asks and returns an x."""


def first_order(x: Tensor, noise_estimate: Tensor, start: float, end: float) -> Tensor:
    """DPM-Solver-1 from level `start` to level `end`: x at the end. Asks nothing. Source: Eq. 3.7, which is DDIM."""
    return x + (end - start) * noise_estimate  # sigma_t (exp(h) - 1) = start - end


def second_order(x: Tensor, noise_estimate: Tensor, start: float, end: float) -> Inside:
    """DPM-Solver-2 from level `start` to level `end`, one question. Source: Algorithm 1 with r1 = 1/2."""
    middle = math.sqrt(start * end)
    between = first_order(x, noise_estimate, start, middle)
    at_middle = yield from noise_at(between, middle)
    # At r1 = 1/2 the difference has the weight of the first-order step, 1 / (2 r1) = 1, and only the middle's answer is left.
    return first_order(x, at_middle, start, end)


def third_order(
    x: Tensor, noise_estimate: Tensor, start: float, end: float
) -> Generator[Query, Tensor, tuple[Tensor, Tensor]]:
    """DPM-Solver-3 from level `start` to level `end`, two questions; x at the end, and by its embedded second order.

    Source: Algorithm 2 with r1 = 1/3, r2 = 2/3; the second order is DPM-Solver-2 with r1 = 1/3, as in DPM-Solver-23.
    """
    h = math.log(start / end)
    s1, s2 = start * math.exp(-h / 3), start * math.exp(-h * 2 / 3)
    grown = start - end  # sigma_t (exp(h) - 1)
    at_s1 = yield from noise_at(first_order(x, noise_estimate, start, s1), s1)
    lower = first_order(x, noise_estimate, start, end) - (3 / 2) * grown * (at_s1 - noise_estimate)
    # The weight of the noise's change: (exp(z) - 1) / z - 1, with sigma_t before it.
    curved = s2 * (math.expm1(h * 2 / 3) / (h * 2 / 3) - 1)
    between = first_order(x, noise_estimate, start, s2) - 2 * curved * (at_s1 - noise_estimate)
    at_s2 = yield from noise_at(between, s2)
    curved = end * (math.expm1(h) / h - 1)
    return first_order(x, noise_estimate, start, end) - (3 / 2) * curved * (at_s2 - noise_estimate), lower


def noise_at(x: Tensor, sigma: float) -> Inside:
    """Asks about x and returns the estimate of its noise."""
    denoised = yield Query(x, sigma)
    return (x - denoised) / sigma
