"""Pseudo numerical method with its Runge-Kutta start: the paper's, before PLMS left the start out."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.prediction import output_for
from sfumato.diffusion.samplers.plms import ADAMS_BASHFORTH, Mixed, transfer
from sfumato.diffusion.spacing import relabel


def pndm(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    middles: Sequence[tuple[float, float]],
    mixes: Mixed = "epsilon",
    targets: Sequence[float] | None = None,
) -> Sampling:
    """Pseudo Runge-Kutta of fourth order for the first steps, Adams-Bashforth for the others; deterministic.

    Four evaluations for each of the first steps, which `middles` has levels for, and one for each of the others. A middle is the level
    that is gone to first and the one that x is then read as being at, which are one where timesteps divide evenly.
    `targets` are the levels aimed at, where they are not the next ones visited.
    Source: Liu et al. 2022, arXiv:2202.09778, Eqs. 9, 12 and 13 and Algorithm 2, divided by sqrt(alpha).
    """
    answers: list[Tensor] = []  # the newest first
    for place, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma)
        first = output_for(denoised, x, sigma, mixes)
        answers = [first, *answers[:3]]
        if place < len(middles):
            gone, middle = middles[place]
            between = relabel(transfer(first, x, sigma, gone, mixes), gone, middle)
            second = output_for((yield Query(between, middle)), between, middle, mixes)
            between = transfer(second, x, sigma, middle, mixes)
            third = output_for((yield Query(between, middle)), between, middle, mixes)
            ahead = transfer(third, x, sigma, sigma_next, mixes)
            denoised = yield Query(ahead, sigma_next)
            mixed = (first + 2 * second + 2 * third + output_for(denoised, ahead, sigma_next, mixes)) / 6  # Eq. 13
            target = sigma_next
        else:
            weights = ADAMS_BASHFORTH[len(answers)]
            mixed = sum((w * answer for w, answer in zip(weights, answers, strict=True)), x.new_zeros(()))
            target = sigma_next if targets is None else targets[place]
        x = transfer(mixed, x, sigma, target, mixes)
        x = yield Step(relabel(x, target, sigma_next), sigma_next, denoised)
    return x
