"""Euler's method with part of the noise renewed at each step."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split


def euler_ancestral(
    x: Tensor, sigmas: Sequence[float], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """An Euler step to below the next level, then fresh noise back up to it; one evaluation a step, stochastic.

    `eta` is the share of DDPM's noise, `s_noise` a factor on its std. `noise` is drawn once a step, the last one too, where it is
    multiplied by 0: a generator that goes on to another image then stands where other software leaves it.
    Source: K. Crowson's k-diffusion, sample_euler_ancestral; the split is DDPM's posterior (Ho et al. 2020, arXiv:2006.11239, Eq. 7).
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        down, up = ancestral_split(sigma, sigma_next, eta)
        x = x + (x - denoised) / sigma * (down - sigma)
        x = x + (s_noise * up) * noise()
        x = yield Step(x, sigma_next, denoised)
    return x
