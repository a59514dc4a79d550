"""Stochastic Adams: predictor and corrector on an SDE whose noise may be turned up and down along the way."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, moments, weights

Tau: TypeAlias = Callable[[float], float]
"""How much noise the SDE has at a level: 0 is the ODE, 1 the diffusion SDE."""


def sa_solver(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    tau: Tau = lambda _: 1.0,
    s_noise: float = 1.0,
    predictor_order: int = 2,
    corrector_order: int = 2,
    predicts: Literal["data", "noise"] = "data",
    lower_order_end: bool = True,
) -> Sampling:
    """One evaluation a step, stochastic where `tau` is above 0.

    `tau` is read at the level that a step begins at; `s_noise` is a factor on the noise, which is drawn once a step. Orders are 1
    to 4, lower until there is the history and, with `lower_order_end`, in the last steps. `predicts` says whether the polynomial
    goes through the denoised x or through its noise. The correction is added to the x that was handed back.
    Source: Xue et al. 2023, arXiv:2309.05019, Algorithm 1, divided by alpha; two answers are weighed as in its authors' code.
    """
    steps = len(sigmas) - 1
    answers: Answers = ()
    predicted = started = x
    tau_last, to_correct = 0.0, 0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma)
        here = sigma, denoised if predicts == "data" else (x - denoised) / sigma
        if answers:
            used = (here, *answers)[:to_correct]
            # The corrector's noise is the predictor's and falls out of the difference.
            x = x + (_drift(started, answers[0][0], sigma, used, tau_last, predicts) - predicted)
        answers = (here, *answers)[: max(predictor_order, corrector_order - 1)]
        left = steps - step if lower_order_end else steps
        to_correct = min(corrector_order, left + 1)
        tau_last, started = tau(sigma), x
        predicted = _drift(x, sigma, sigma_next, answers[: min(predictor_order, left)], tau_last, predicts)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf
        growth = -math.expm1(-2 * tau_last**2 * h) if predicts == "data" else tau_last**2 * math.expm1(2 * h)
        fresh = noise()
        offered = predicted if sigma_next == 0 else predicted + (s_noise * sigma_next * math.sqrt(growth)) * fresh
        x = yield Step(offered, sigma_next, denoised)
    return x


def _drift(
    x: Tensor, sigma: float, sigma_next: float, answers: Answers, tau: float, predicts: Literal["data", "noise"]
) -> Tensor:
    """x at `sigma_next` without the noise: the predictor, or the corrector where the first answer is from `sigma_next` itself."""
    if sigma_next in (0, sigma):  # a step to the end, or of no length
        at = next(answer for level, answer in answers if level == sigma)
        return x if sigma_next else (at if predicts == "data" else x - sigma * at)
    h = math.log(sigma / sigma_next)
    more = 1 + tau**2
    if predicts == "data":
        integrals = moments(len(answers), h, more)
        if len(answers) == 2:
            integrals[1] = h / 2  # as its authors' code has it, in place of the exact integral
        scale, x = more, math.exp(-more * h) * x
    else:
        integrals, scale = moments(len(answers), h, -1.0), -more * sigma_next
    nodes = [math.log(sigma / level) / h for level, _ in answers]
    for weight, (_, answer) in zip(weights(nodes, integrals), answers, strict=True):
        x = x + scale * weight * answer
    return x
