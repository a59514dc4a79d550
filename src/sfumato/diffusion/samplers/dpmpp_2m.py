"""DPM-Solver++, multistep."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step


def dpmpp_2m(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    order: Literal[1, 2] = 2,
    solver: Literal["midpoint", "heun"] = "midpoint",
    first_order_final: bool = False,
) -> Sampling:
    """Second order, one evaluation a step, deterministic; exact in the linear part of the ODE.

    The first step is of first order, and so is a step to 0 or, where asked for, the last one.
    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 2, divided by alpha; with lambda = -log sigma, exp(-h) is a ratio of sigmas.
    """
    last: tuple[float, Tensor] | None = None
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas), start=1):
        denoised = yield Query(x, sigma)
        ratio = sigma_next / sigma  # exp(-h)
        x = ratio * x + (1 - ratio) * denoised  # Eq. 9 with k = 1
        is_final = step == len(sigmas) - 1
        if last is not None and order == 2 and sigma_next > 0 and not (is_final and first_order_final):
            h, h_last = math.log(sigma / sigma_next), math.log(last[0] / sigma)
            change = (h / h_last) * (
                denoised - last[1]
            )  # D_i of line 7, but for the half: denoised's change over this step
            x = x + (_heun_weight(h) if solver == "heun" else (1 - ratio) / 2) * change
        last = sigma, denoised
        x = yield Step(x, sigma_next, denoised)
    return x


def _heun_weight(h: float) -> float:
    # Integral of exp(lambda - h) * lambda / h over the step: the linear term of Eq. 8 kept, where the midpoint form approximates it.
    return 1 + math.expm1(-h) / h if h > 0 else 0.0
