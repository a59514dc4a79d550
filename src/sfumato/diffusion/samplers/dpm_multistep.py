"""DPM-Solver, multistep: the form of DPM-Solver++ 2M that follows the noise."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import NoisePath, Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, phi, slope, slope_and_bend


def dpm_multistep(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    path: NoisePath | None = None,
    order: int = 2,
    solver: Literal["midpoint", "heun"] = "midpoint",
    first_order_final: bool = False,
    lower_order_end: bool = False,
) -> Sampling:
    """Second order, one evaluation a step; deterministic, or the diffusion SDE where a `path` gives its noise (then of order 1 or 2).

    Its first and last steps, and `order` 3, are as those of DPM-Solver++ (see `dpmpp_2m`).
    Source: Lu et al. 2022, arXiv:2206.00927, Eq. 3.4, multistep as in arXiv:2211.01095, Algorithm 2; the SDE's is its SDE-DPM-Solver.
    """
    assert path is None or order < 3, "the SDE's form has no third order"
    answers: Answers = ()
    twice = 1 if path is None else 2  # the SDE takes twice the noise away, and adds some
    for left, (sigma, sigma_next) in zip(range(len(sigmas) - 1, 0, -1), pairwise(sigmas), strict=True):
        denoised = yield Query(x, sigma)
        answers = ((sigma, (x - denoised) / sigma), *answers[: order - 1])
        x = x + twice * (sigma_next - sigma) * answers[0][1]  # Eq. 3.7; sigma' (exp(h) - 1) = sigma - sigma'
        known = 1 if sigma_next == 0 or (left == 1 and first_order_final) else len(answers)
        known = min(known, 2) if left == 2 and lower_order_end else known
        h = math.log(sigma / sigma_next) if known > 1 else 0.0
        if h > 0:
            x = x - (twice * sigma_next) * _change(answers[:known], h, solver)
        if path is not None and sigma_next > 0:
            x = x + math.sqrt(sigma**2 - sigma_next**2) * path(sigma, sigma_next)
        x = yield Step(x, sigma_next, denoised)
    return x


def _change(answers: Answers, h: float, solver: Literal["midpoint", "heun"]) -> Tensor:
    if len(answers) == 3:
        slanted, bend = slope_and_bend(answers, h)
        return h * phi(2, h) * slanted + h * phi(3, h) * bend
    return (h * phi(2, h) if solver == "heun" else math.expm1(h) / 2) * slope(answers[0], answers[1], h)
