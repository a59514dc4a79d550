"""Diffusion exponential integrator sampler: a polynomial in log sigma through past noise estimates, integrated exactly."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, moments, weights


def deis(x: Tensor, sigmas: Sequence[float], *, order: int = 3, lower_order_end: bool = False) -> Sampling:
    """Of that order (lower until it has the history), one evaluation a step, deterministic.

    The last step is of first order where it goes to 0 or `lower_order_end` says so; the last but one then is of second.
    Source: Zhang & Chen 2023, arXiv:2204.13902, Eqs. 14 and 15 (tAB-DEIS) with the polynomial in log rho, where rho is our sigma.
    """
    answers: Answers = ()
    for left, (sigma, sigma_next) in zip(range(len(sigmas) - 1, 0, -1), pairwise(sigmas), strict=True):
        denoised = yield Query(x, sigma)
        answers = ((sigma, (x - denoised) / sigma), *answers[: order - 1])
        used = answers[:left] if lower_order_end else answers
        if sigma_next == 0 or sigma_next == sigma or len(used) == 1:
            x = x + (sigma_next - sigma) * answers[0][1]
        else:
            h = math.log(sigma / sigma_next)
            nodes = [math.log(sigma / level) / h for level, _ in used]
            for weight, (_, epsilon) in zip(weights(nodes, moments(len(used), h, -1.0)), used, strict=True):
                x = x - sigma_next * weight * epsilon  # Eq. 14: the integral of each Lagrange polynomial, Eq. 15
        x = yield Step(x, sigma_next, denoised)
    return x
