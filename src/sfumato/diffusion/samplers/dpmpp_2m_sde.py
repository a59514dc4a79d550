"""DPM-Solver++ on the diffusion SDE, multistep of second order."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import NoisePath, Query, Sampling, Step
from sfumato.diffusion.samplers.dpmpp_2m import change
from sfumato.diffusion.samplers.exponential import Answers


def dpmpp_2m_sde(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    path: NoisePath,
    eta: float = 1.0,
    s_noise: float = 1.0,
    order: Literal[1, 2] = 2,
    solver: Literal["midpoint", "heun"] = "midpoint",
    first_order_final: bool = False,
) -> Sampling:
    """One evaluation a step, stochastic; exact in the linear part of the SDE and in its noise.

    `path` gives the noise between two levels. `eta` scales the SDE's noise and what undoes it: 1 is the diffusion SDE, 0 the ODE, where
    this is DPM-Solver++(2M); `s_noise` is a factor on the noise alone. The first step is of first order, and so is a step to 0 or,
    where asked for, the last one.
    Source: Lu et al. 2022, arXiv:2211.01095, SDE-DPM-Solver++(2M), divided by alpha; eta as in K. Crowson's k-diffusion.
    """
    answers: Answers = ()
    for left, (sigma, sigma_next) in zip(range(len(sigmas) - 1, 0, -1), pairwise(sigmas), strict=True):
        denoised = yield Query(x, sigma)
        answers = ((sigma, denoised), *answers[: order - 1])
        if sigma_next == 0:
            x = yield Step(denoised, sigma_next, denoised)
            continue
        h = math.log(sigma / sigma_next)
        z = (1 + eta) * h
        x = math.exp(-z) * x - math.expm1(-z) * denoised
        if len(answers) == 2 and h > 0 and not (left == 1 and first_order_final):
            x = x + change(answers, h, z, solver)
        if eta > 0:
            x = x + (s_noise * sigma_next * math.sqrt(-math.expm1(-2 * eta * h))) * path(sigma, sigma_next)
        x = yield Step(x, sigma_next, denoised)
    return x


def dpmpp_2m_sde_heun(
    x: Tensor, sigmas: Sequence[float], *, path: NoisePath, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """DPM++ 2M SDE with the change of what is denoised weighed exactly, where the midpoint form approximates it.

    Source: Lu et al. 2022, arXiv:2211.01095, the integral of a straight line kept; K. Crowson's k-diffusion, solver_type="heun".
    """
    return dpmpp_2m_sde(x, sigmas, path=path, eta=eta, s_noise=s_noise, solver="heun")
