"""Improved pseudo numerical methods: PLMS started by lower orders."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.samplers.plms import ADAMS_BASHFORTH


def ipndm(x: Tensor, sigmas: Sequence[float], *, order: int = 4) -> Sampling:
    """Adams-Bashforth of up to that order (at most 4), with weights that take the steps to be even; one evaluation a step, deterministic.

    Steps are not even in sigma, so it converges with second order where their size changes smoothly. Its form with weights for the
    steps as they are (ipndm_v) is LMS.
    Source: Zhang & Chen 2023, arXiv:2204.13902, (iPNDM); Liu et al. 2022, arXiv:2202.09778, Eq. 12.
    """
    slopes: list[Tensor] = []  # the newest first
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield Query(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[: order - 1]]
        for weight, slope in zip(ADAMS_BASHFORTH[len(slopes)], slopes, strict=True):
            x = x + (sigma_next - sigma) * weight * slope
        x = yield Step(x, sigma_next, denoised)
    return x
