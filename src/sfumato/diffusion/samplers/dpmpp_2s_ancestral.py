"""DPM-Solver++, single-step of second order, with part of the noise renewed at each step."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split


def dpmpp_2s_ancestral(
    x: Tensor, sigmas: Sequence[float], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """A step of DPM-Solver++(2S) to below the next level, then fresh noise back up to it; two evaluations a step, stochastic.

    `eta` is the share of DDPM's noise, `s_noise` a factor on its std. `noise` is drawn once a step, but not for a step to 0.
    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 1 with r = 1/2, divided by alpha; K. Crowson's k-diffusion, sample_dpmpp_2s_ancestral.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        down, up = ancestral_split(sigma, sigma_next, eta)
        if down > 0:
            half = math.sqrt(down / sigma)  # exp(-r h)
            between = half * x + (1 - half) * denoised  # u_i
            denoised = yield Query(between, math.sqrt(sigma * down))
        ratio = down / sigma  # exp(-h)
        x = ratio * x + (1 - ratio) * denoised  # at r = 1/2 only the middle's answer is left in D_i
        if sigma_next > 0:
            x = x + (s_noise * up) * noise()
        x = yield Step(x, sigma_next, denoised)
    return x
