"""Trajectory consistency distillation: along the ODE to below the next level, and up to it with fresh noise."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step


def tcd(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    through: Sequence[float] | None = None,
    s_noise: float = 1.0,
) -> Sampling:
    """First order, one evaluation a step; stochastic where a step goes through a level below the next one.

    `through` are those levels, one a step; without them there is no noise, and it is DDIM. `noise` is drawn once a step, but not
    for the last where it goes through no lower level.
    Source: Zheng et al. 2024, arXiv:2402.19159 (strategic stochastic sampling), divided by alpha.
    """
    assert noise is not None or through is None, "going through lower levels needs a noise source"
    for left, (sigma, sigma_next), low in zip(
        range(len(sigmas) - 1, 0, -1), pairwise(sigmas), through or sigmas[1:], strict=True
    ):
        denoised = yield Query(x, sigma)
        epsilon = (x - denoised) / sigma
        x = denoised + low * epsilon
        if noise is not None and through is not None and (left > 1 or sigma_next > low):
            x = x + (s_noise * math.sqrt(max(sigma_next**2 - low**2, 0.0))) * noise()
        x = yield Step(x, sigma_next, denoised)
    return x
