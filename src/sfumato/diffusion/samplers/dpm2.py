"""DPM-Solver of second order in sigma space: the slope at the middle of the step."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.churn import NO_CHURN, Churn


def dpm2(x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, churn: Churn = NO_CHURN) -> Sampling:
    """Second order, two evaluations a step but one for a step to 0; deterministic unless `churn` puts noise back.

    `noise` is what churn draws from.
    Source: Lu et al. 2022, arXiv:2206.00927, Algorithm 1 with r1 = 1/2, its step over the middle slope taken in sigma (K. Crowson's
    k-diffusion, sample_dpm_2); churn as in Karras et al. 2022, arXiv:2206.00364, Algorithm 2.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma = churn.lift(x, sigma, len(sigmas) - 1, noise)
        denoised = yield Query(x, sigma)
        slope = (x - denoised) / sigma
        if sigma_next > 0:
            middle = math.sqrt(sigma * sigma_next)  # halfway in log sigma
            between = x + slope * (middle - sigma)  # u
            denoised = yield Query(between, middle)
            slope = (between - denoised) / middle
        x = x + slope * (sigma_next - sigma)
        x = yield Step(x, sigma_next, denoised)
    return x
