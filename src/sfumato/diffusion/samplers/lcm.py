"""Latent consistency sampling: to the end in one go, and back up with fresh noise."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step

Boundary: TypeAlias = Callable[[float], tuple[float, float]]
"""c_skip and c_out at a level: how much of x and of the network's estimate make the consistency function."""


def lcm(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    s_noise: float = 1.0,
    boundary: Boundary | None = None,
    clip: float | None = None,
) -> Sampling:
    """One evaluation a step, stochastic; for networks that were taught to give the end of the ODE from any level.

    It converges to no solution: with other networks each step forgets what was drawn before. `noise` is drawn once a step, but
    not for a step to 0. `boundary` mixes some of x in, where the network was trained so; `clip` bounds the denoised latents.
    Source: Luo et al. 2023, arXiv:2310.04378 (multistep latent consistency sampling); Song et al. 2023, arXiv:2303.01469, Algorithm 1, divided by alpha.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        if clip is not None:
            denoised = denoised.clamp(-clip, clip)
        if boundary is not None:
            skip, out = boundary(sigma)
            denoised = out * denoised + (skip / math.sqrt(1 + sigma**2)) * x
        x = denoised + (s_noise * sigma_next) * noise() if sigma_next > 0 else denoised
        x = yield Step(x, sigma_next, denoised)
    return x
