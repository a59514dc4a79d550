"""Restart: down by Heun's method, and from a low level up to a higher one again with fresh noise, to be denoised once more."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.spacing import karras

# AUTOMATIC1111's choice: from 20 steps on, restarts go from near 0.1 up to near 2.
LOW, HIGH = 0.1, 2.0


def restart(x: Tensor, sigmas: Sequence[float], *, noise: Noise, s_noise: float = 1.0) -> Sampling:
    """Second order, two evaluations a step but one for a step to 0; stochastic where it restarts, which is in runs of 20 steps and more.

    The steps asked for are shared out between the way down and the restarts, so there are as many (see `restart_plan`); the way
    down is then spaced as Karras et al. do. `noise` is drawn once a restart, its std times `s_noise`.
    Source: Xu et al. 2023, arXiv:2306.14878, Algorithm 1; the steps of each restart as in AUTOMATIC1111's web UI.
    """
    reached = sigmas[0]
    for sigma, sigma_next in restart_plan(sigmas):
        if sigma > reached:
            x = x + (s_noise * math.sqrt(sigma**2 - reached**2)) * noise()  # the forward process from t_min to t_max
        denoised = yield Query(x, sigma)
        slope = (x - denoised) / sigma
        ahead = x + slope * (sigma_next - sigma)
        if sigma_next > 0:
            denoised = yield Query(ahead, sigma_next)
            ahead = x + (slope + (ahead - denoised) / sigma_next) / 2 * (sigma_next - sigma)
        x = yield Step(ahead, sigma_next, denoised)
        reached = sigma_next
    return x


def restart_plan(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """The steps of a run, each from one level to the next; one that starts above where the last ended is a restart.

    Below 20 steps they are those of `sigmas`. From 20 on one restart of 9 steps, from 36 on two of a quarter of the steps each.
    """
    steps = len(sigmas) - 1
    if steps < 20:
        return list(pairwise(sigmas))
    length, times = (9, 1) if steps < 36 else (steps // 4, 2)
    to_zero = sigmas[-1] == 0
    down = karras(sigmas[0], sigmas[-2] if to_zero else sigmas[-1], steps - length * times + (not to_zero))
    down = (*down, 0.0) if to_zero else down
    low, high = (min(range(len(down)), key=lambda place, goal=goal: abs(down[place] - goal)) for goal in (LOW, HIGH))
    again = list(pairwise(karras(down[high], down[low], length + 1))) if high < low else []
    return [*pairwise(down[: low + 1]), *(again * times), *pairwise(down[low:])]
