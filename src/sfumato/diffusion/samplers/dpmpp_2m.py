"""DPM-Solver++, multistep."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, phi, slope, slope_and_bend


def dpmpp_2m(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    order: int = 2,
    solver: Literal["midpoint", "heun"] = "midpoint",
    first_order_final: bool = False,
    lower_order_end: bool = False,
) -> Sampling:
    """Second order, one evaluation a step, deterministic; exact in the linear part of the ODE.

    The first step is of first order, and so is a step to 0 or, where asked for, the last one. `order` 3 uses three answers from the
    third step on, but two for the last but one with `lower_order_end`; with the weights of its authors' code, which give the bend
    half of what a parabola has, it is of second order too, with a smaller error.
    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 2, divided by alpha; with lambda = -log sigma, exp(-h) is a ratio of sigmas.
    """
    answers: Answers = ()
    steps = len(sigmas) - 1
    for left, (sigma, sigma_next) in zip(range(steps, 0, -1), pairwise(sigmas), strict=True):
        denoised = yield Query(x, sigma)
        answers = ((sigma, denoised), *answers[: order - 1])
        ratio = sigma_next / sigma  # exp(-h)
        x = ratio * x + (1 - ratio) * denoised  # Eq. 9 with k = 1
        known = 1 if sigma_next == 0 or (left == 1 and first_order_final) else len(answers)
        known = min(known, 2) if left == 2 and lower_order_end else known
        h = math.log(sigma / sigma_next) if known > 1 else 0.0
        if h > 0:
            x = x + change(answers[:known], h, h, solver)
        x = yield Step(x, sigma_next, denoised)
    return x


def change(answers: Answers, h: float, z: float, solver: Literal["midpoint", "heun"]) -> Tensor:
    """What a step of length h adds for the change of two or three answers; z is h for the ODE, 2 h for the SDE.

    Midpoint is line 9 of Algorithm 2; heun keeps the linear term of Eq. 8, which the midpoint form approximates.
    """
    if len(answers) == 3:
        slanted, bend = slope_and_bend(answers, h)
        return z * phi(2, -z) * slanted + z * phi(3, -z) * bend
    return (z * phi(2, -z) if solver == "heun" else -math.expm1(-z) / 2) * slope(answers[0], answers[1], h)
