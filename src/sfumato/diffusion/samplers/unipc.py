"""UniPC: a multistep predictor, and a corrector that costs nothing, for it uses the answer that the next step asks for anyway."""

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, moments, weights

Variant = Literal["bh1", "bh2"]


def unipc(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    order: int = 2,
    variant: Variant = "bh2",
    predicts: Literal["data", "noise"] = "data",
    lower_order_end: bool = True,
    uncorrected: Collection[int] = (),
) -> Sampling:
    """Of order `order` + 1 but for the last step, one evaluation a step, deterministic.

    `variant` is the paper's B(h), h or exp(h) - 1; it matters where two answers are all there is. `predicts` says whether a
    polynomial goes through the denoised x or through its noise. With `lower_order_end` the last steps use ever fewer answers.
    Steps numbered in `uncorrected`, from 0, are left as predicted. The correction is added to the x that was handed back.
    Source: Zhao et al. 2023, arXiv:2302.04867, Algorithms 1 (UniC) and 2 (UniP), divided by alpha; their linear system for a_p is our `weights`.
    """
    answers: Answers = ()
    predicted = started = x
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma)
        here = sigma, denoised if predicts == "data" else (x - denoised) / sigma
        if answers and step - 1 not in uncorrected:
            x = x + (_stepped(started, answers[0][0], sigma, (here, *answers), variant, predicts) - predicted)
        left = len(sigmas) - 1 - step
        answers = (here, *answers[: order - 1])[: left if lower_order_end else order]
        started, predicted = x, _stepped(x, sigma, sigma_next, answers, variant, predicts)
        x = yield Step(predicted, sigma_next, denoised)
    return x


def _stepped(
    x: Tensor, sigma: float, sigma_next: float, answers: Answers, variant: Variant, predicts: Literal["data", "noise"]
) -> Tensor:
    """x at `sigma_next`, by the polynomial through the answers: UniP, or UniC where one of them is from `sigma_next` itself."""
    if sigma_next in (0, sigma):
        answers = [answer for answer in answers if answer[0] == sigma]
    kappa = 1.0 if predicts == "data" else -1.0
    scale, x = (1.0, sigma_next / sigma * x) if predicts == "data" else (-sigma_next, x)
    if len(answers) == 1:
        first = 1 - sigma_next / sigma if predicts == "data" else sigma_next - sigma
        return x + first * answers[0][1]
    h = math.log(sigma / sigma_next)
    integrals = moments(len(answers), h, kappa)
    if len(answers) == 2:
        integrals[1] = (h if variant == "bh1" else integrals[0]) / 2  # a = 1/2, whatever h, times B(h)
    nodes = [math.log(sigma / level) / h for level, _ in answers]
    for weight, (_, answer) in zip(weights(nodes, integrals), answers, strict=True):
        x = x + scale * weight * answer
    return x
