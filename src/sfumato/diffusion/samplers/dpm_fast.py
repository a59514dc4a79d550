"""DPM-Solver-fast: single steps of third order on as many evaluations as asked for."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split
from sfumato.diffusion.samplers.dpm_solver import first_order, second_order, third_order
from sfumato.diffusion.spacing import exponential


def dpm_fast(
    x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 0.0, s_noise: float = 1.0
) -> Sampling:
    """Third order, up to three evaluations a step, one in all for each step asked for; deterministic unless `eta` renews noise.

    Visits levels of its own, even in log sigma between the first of `sigmas` and the last above 0. Where 0 comes after it, the last
    evaluation takes what noise is left.
    Source: Lu et al. 2022, arXiv:2206.00927, section 3.4 (DPM-Solver-fast); `eta` as in K. Crowson's k-diffusion, sample_dpm_fast.
    """
    assert noise is not None or eta == 0, "eta > 0 needs a noise source"
    end, orders = last_positive(sigmas), orders_of(sigmas)
    levels = exponential(sigmas[0], end, len(orders) + 1)
    for order, (sigma, sigma_next) in zip(orders, pairwise(levels), strict=True):
        denoised = yield Query(x, sigma)
        epsilon = (x - denoised) / sigma
        down = max(end, ancestral_split(sigma, sigma_next, eta)[0])
        if order == 1:
            x = first_order(x, epsilon, sigma, down)
        elif order == 2:
            x = yield from second_order(x, epsilon, sigma, down)
        else:
            x, _ = yield from third_order(x, epsilon, sigma, down)
        if noise is not None and eta > 0:
            x = x + (s_noise * math.sqrt(sigma_next**2 - down**2)) * noise()
        x = yield Step(x, sigma_next, denoised)
    if sigmas[-1] == 0:
        denoised = yield Query(x, end)
        x = yield Step(denoised, 0.0, denoised)
    return x


def steps_of(sigmas: Sequence[float]) -> int:
    """How many steps it takes where those levels are asked for."""
    return len(orders_of(sigmas)) + (sigmas[-1] == 0)


def orders_of(sigmas: Sequence[float]) -> list[int]:
    """The order of each step down to the last level above 0, which is what it costs: threes, and the rest at the end."""
    evaluations = len(sigmas) - 1 - (sigmas[-1] == 0)
    if evaluations == 0:
        return []
    if evaluations % 3:
        return [3] * (evaluations // 3) + [evaluations % 3]
    return [3] * (evaluations // 3 - 1) + [2, 1]


def last_positive(sigmas: Sequence[float]) -> float:
    """The last level above 0: log sigma goes no further."""
    return sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
