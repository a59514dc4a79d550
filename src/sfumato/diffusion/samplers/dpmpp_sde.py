"""DPM-Solver++ on the diffusion SDE, single-step."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.brownian import float32_level, float32_middle
from sfumato.diffusion.conversation import NoisePath, Query, Sampling, Step
from sfumato.diffusion.samplers.ancestral import ancestral_split


def dpmpp_sde(
    x: Tensor, sigmas: Sequence[float], *, path: NoisePath, eta: float = 1.0, s_noise: float = 1.0
) -> Sampling:
    """A stochastic step to the middle and from there over the whole; two evaluations a step but one for a step to 0.

    `path` gives the noise of both, which belong together: the middle lies on the way to the end. `eta` is the share of DDPM's noise,
    `s_noise` a factor on its std; at `eta` 0 it is DPM-Solver++(2S), of second order.
    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 1 with r = 1/2, divided by alpha, its steps ancestral (K. Crowson's k-diffusion, sample_dpmpp_sde).
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        if sigma_next > 0:
            # As its reference has them, to the last digit: the path is read there, and pictures depend on it.
            start, middle, end = float32_level(sigma), float32_middle(sigma, sigma_next), float32_level(sigma_next)
            between = _ancestral(x, denoised, sigma, middle, eta, s_noise * path(start, middle))
            denoised = yield Query(between, middle)
            x = _ancestral(x, denoised, sigma, sigma_next, eta, s_noise * path(start, end))
        else:
            x = denoised
        x = yield Step(x, sigma_next, denoised)
    return x


def _ancestral(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, eta: float, noise: Tensor) -> Tensor:
    """A first-order step to below the next level, u_i of Algorithm 1, then noise back up to it."""
    down, up = ancestral_split(sigma, sigma_next, eta)
    ratio = down / sigma  # exp(-h)
    return ratio * x + (1 - ratio) * denoised + up * noise
