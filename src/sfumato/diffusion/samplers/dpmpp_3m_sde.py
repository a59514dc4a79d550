"""DPM-Solver++ on the diffusion SDE, multistep with three answers."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import NoisePath, Query, Sampling, Step
from sfumato.diffusion.samplers.dpmpp_2m import change
from sfumato.diffusion.samplers.exponential import Answers


def dpmpp_3m_sde(
    x: Tensor, sigmas: Sequence[float], *, path: NoisePath, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """One evaluation a step, stochastic; exact in the linear part of the SDE and in its noise.

    `path` gives the noise between two levels. `eta` scales the SDE's noise and what undoes it: 1 is the diffusion SDE, 0 the ODE;
    `s_noise` is a factor on the noise alone. The first two steps have fewer answers to go by, and a step to 0 takes the last one.
    Source: K. Crowson's k-diffusion, sample_dpmpp_3m_sde; Lu et al. 2022, arXiv:2211.01095. Its weight of the bend is
    half that of a parabola through the three answers, so it is of second order like 2M, with a smaller error.
    """
    answers: Answers = ()
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        answers = ((sigma, denoised), *answers[:2])
        if sigma_next == 0:
            x = yield Step(denoised, sigma_next, denoised)
            continue
        h = math.log(sigma / sigma_next)
        z = (1 + eta) * h
        x = math.exp(-z) * x - math.expm1(-z) * denoised
        if len(answers) > 1 and h > 0:
            x = x + change(answers, h, z, "heun")
        if eta > 0:
            x = x + (s_noise * sigma_next * math.sqrt(-math.expm1(-2 * eta * h))) * path(sigma, sigma_next)
        x = yield Step(x, sigma_next, denoised)
    return x
