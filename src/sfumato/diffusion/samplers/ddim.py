"""Denoising diffusion implicit models."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.spacing import relabel


def ddim(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    targets: Sequence[float] | None = None,
    bound: Callable[[Tensor], Tensor] | None = None,
) -> Sampling:
    """First order, one evaluation a step; deterministic at eta = 0, ancestral (as DDPM) at eta = 1.

    `noise` is drawn once a step where eta > 0. `targets` are the levels aimed at, where they are not the next ones visited.
    `bound` holds the denoised latents within bounds, while the direction towards x stays that of the unbounded ones.
    Source: Song et al. 2021, arXiv:2010.02502, Eqs. 12 and 16, divided by sqrt(alpha).
    """
    assert noise is not None or eta == 0, "eta > 0 needs a noise source"
    for (sigma, sigma_next), target in zip(pairwise(sigmas), targets or sigmas[1:], strict=True):
        denoised = yield Query(x, sigma)
        epsilon = (x - denoised) / sigma
        if bound is not None:
            denoised = bound(denoised)
        up = eta * target * math.sqrt(1 - (target / sigma) ** 2)  # Eq. 16
        x = denoised + math.sqrt(target**2 - up**2) * epsilon  # Eq. 12
        if noise is not None and eta > 0:
            x = x + up * noise()
        x = yield Step(relabel(x, target, sigma_next), sigma_next, denoised)
    return x
