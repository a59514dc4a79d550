"""DPM-Solver of second order in sigma space, with part of the noise renewed at each step."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split


def dpm2_ancestral(
    x: Tensor, sigmas: Sequence[float], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """A step over the slope at its middle to below the next level, then fresh noise back up to it; two evaluations a step, stochastic.

    `eta` is the share of DDPM's noise, `s_noise` a factor on its std. `noise` is drawn once a step, but not for a step to 0.
    Source: K. Crowson's k-diffusion, sample_dpm_2_ancestral; Lu et al. 2022, arXiv:2206.00927, Algorithm 1 with r1 = 1/2.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        slope = (x - denoised) / sigma
        down, up = ancestral_split(sigma, sigma_next, eta)
        if down > 0:
            middle = math.sqrt(sigma * down)
            between = x + slope * (middle - sigma)
            denoised = yield Query(between, middle)
            slope = (between - denoised) / middle
        x = x + slope * (down - sigma)
        if sigma_next > 0:
            x = x + (s_noise * up) * noise()
        x = yield Step(x, sigma_next, denoised)
    return x
