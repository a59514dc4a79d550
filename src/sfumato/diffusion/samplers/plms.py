"""Pseudo linear multistep method: the sampler that Stable Diffusion 1.x came with."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.prediction import denoised_from, output_for
from sfumato.diffusion.spacing import relabel

Mixed: TypeAlias = Literal["epsilon", "v_prediction"]
"""What the multistep formula mixes: noise estimates as in the paper, or a v network's own answers."""

# Adams-Bashforth weights by how many answers there are, the newest first. Liu et al. 2022, Eq. 12 and appendix (F-PNDM's start).
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def plms(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    mixes: Mixed = "epsilon",
    targets: Sequence[float] | None = None,
    restart: float | None = None,
    corrected: float | None = None,
) -> Sampling:
    """Adams-Bashforth of up to fourth order, with weights that take the steps to be even; deterministic.

    One evaluation a step, and one more for the first, which is Heun's (none more in a run of one step). Steps are not even in
    sigma, so it converges with second order where their size changes smoothly, and with first order where it mixes v.
    `targets` are the levels aimed at, where they are not the next ones visited. `restart` is the level that x is read as being
    at when the first step is taken again with the mean answer, where it is not the first level. `corrected` is the level at which the
    second answer is asked for, and which that step then reaches, where it is not the next one visited.
    Source: Liu et al. 2022, arXiv:2202.09778, Eqs. 9 and 12, divided by sqrt(alpha); the first step is that of CompVis's PLMS.
    """
    answers: list[Tensor] = []  # the newest first
    for (sigma, sigma_next), target in zip(pairwise(sigmas), targets or sigmas[1:], strict=True):
        denoised = yield Query(x, sigma)
        answers = [output_for(denoised, x, sigma, mixes), *answers[:3]]
        mixed = sum(
            (w * answer for w, answer in zip(ADAMS_BASHFORTH[len(answers)], answers, strict=True)), x.new_zeros(())
        )
        if len(answers) == 1 and (corrected is not None or len(sigmas) > 2):
            second = sigma_next if corrected is None else corrected
            ahead = relabel(transfer(mixed, x, sigma, target, mixes), target, second)
            denoised = yield Query(ahead, second)
            mixed = (answers[0] + output_for(denoised, ahead, second, mixes)) / 2
            again = sigma if restart is None else restart
            x, sigma, target = relabel(x, sigma, again), again, second
        x = transfer(mixed, x, sigma, target, mixes)
        x = yield Step(relabel(x, target, sigma_next), sigma_next, denoised)
    return x


def transfer(answer: Tensor, x: Tensor, sigma: float, target: float, mixes: Mixed) -> Tensor:
    """Eq. 9, which in sigma space is a straight line along the noise estimate."""
    return x + (x - denoised_from(answer, x, sigma, mixes)) / sigma * (target - sigma)
