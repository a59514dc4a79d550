"""Euler's method on the probability-flow ODE."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.churn import NO_CHURN, Churn


def euler(x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, churn: Churn = NO_CHURN) -> Sampling:
    """First order, one evaluation a step, deterministic unless `churn` puts noise back, which `noise` is drawn for.

    Source: Karras et al. 2022, arXiv:2206.00364, Algorithm 2 without its second-order correction (lines 9 to 11).
    """
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churn.lift(x, sigma, len(sigmas) - 1, noise)
        denoised = yield Query(x, sigma)
        x = x + (x - denoised) / sigma * (sigma_next - sigma)  # Eq. 3: dx/dsigma = (x - denoised) / sigma
        x = yield Step(x, sigma_next, denoised)
    return x
