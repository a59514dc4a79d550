"""Euler's method on the probability-flow ODE."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step


def euler(x: Tensor, sigmas: Sequence[float]) -> Sampling:
    """First order, one evaluation a step, deterministic.

    Source: Karras et al. 2022, arXiv:2206.00364, Algorithm 1 without its second-order correction (lines 6 to 8), s(t) = 1.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        x = x + (x - denoised) / sigma * (sigma_next - sigma)  # Eq. 3: dx/dsigma = (x - denoised) / sigma
        x = yield Step(x, sigma_next, denoised)
    return x
