"""Ancestral sampling of denoising diffusion probabilistic models."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step


def ddpm(x: Tensor, sigmas: Sequence[float], *, noise: Noise, clip: float | None = None) -> Sampling:
    """Draws from the posterior of the next level given x and the denoised latents; one evaluation a step, stochastic.

    `noise` is drawn once a step, the last one too, where a level of 0 makes nothing of it. `clip` bounds the denoised latents to [-clip, clip].
    Source: Ho et al. 2020, arXiv:2006.11239, Eqs. 6 and 7 (variance: the posterior's, "fixed small"), divided by sqrt(alpha).
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        if clip is not None:
            denoised = denoised.clamp(-clip, clip)
        kept = (sigma_next / sigma) ** 2
        mean = (1 - kept) * denoised + kept * x  # Eq. 7
        x = mean + sigma_next * math.sqrt(1 - kept) * noise()
        x = yield Step(x, sigma_next, denoised)
    return x
