"""Heun's method on the probability-flow ODE."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.churn import NO_CHURN, Churn


def heun(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    churn: Churn = NO_CHURN,
    clip: float | None = None,
) -> Sampling:
    """Second order, two evaluations a step but one for a step to 0; deterministic unless `churn` puts noise back.

    `noise` is what churn draws from. `clip` bounds the denoised latents to [-clip, clip].
    Source: Karras et al. 2022, arXiv:2206.00364, Algorithm 2.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churn.lift(x, sigma, len(sigmas) - 1, noise)
        denoised = _clipped((yield Query(x, sigma)), clip)
        slope = (x - denoised) / sigma  # line 7
        ahead = x + slope * (sigma_next - sigma)  # line 8
        if sigma_next > 0:
            denoised = _clipped((yield Query(ahead, sigma_next)), clip)
            slope_ahead = (ahead - denoised) / sigma_next  # line 10
            ahead = x + (slope + slope_ahead) / 2 * (sigma_next - sigma)  # line 11
        x = yield Step(ahead, sigma_next, denoised)
    return x


def _clipped(denoised: Tensor, clip: float | None) -> Tensor:
    return denoised if clip is None else denoised.clamp(-clip, clip)
