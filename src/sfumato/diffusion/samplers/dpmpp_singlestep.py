"""DPM-Solver and DPM-Solver++, single-step, on levels that are given: two or three of them make a step of the paper."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sfumato.diffusion.conversation import NoisePath, Query, Sampling, Step
from sfumato.diffusion.samplers.exponential import Answers, phi

Predicts = Literal["data", "noise"]


def dpmpp_singlestep(
    x: Tensor,
    sigmas: Sequence[float],
    *,
    path: NoisePath | None = None,
    orders: Sequence[int] | None = None,
    solver: Literal["midpoint", "heun"] = "midpoint",
    predicts: Predicts = "data",
) -> Sampling:
    """Second order, one evaluation a level; deterministic, or the diffusion SDE where a `path` gives its noise.

    `orders`, one a level, say how: 1 begins anew from there, 2 goes from the level before that on to the next with both answers, 3
    from two before. Left out they are 1, 2, 1, 2 … and 1 at the end. Where an x is handed back that was not offered, it begins anew.
    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 1 (data), and arXiv:2206.00927, Algorithms 1 and 2 (noise), divided by alpha.
    """
    assert path is None or predicts == "data", "the SDE's form follows the denoised x"
    orders = orders or singlestep_orders(len(sigmas) - 1, 2)
    eta = 0.0 if path is None else 1.0
    start, answers = x, ()
    for order, (sigma, sigma_next) in zip(orders, pairwise(sigmas), strict=True):
        denoised = yield Query(x, sigma)
        here = sigma, denoised if predicts == "data" else (x - denoised) / sigma
        answers: Answers = (here, *answers)[:order]
        if len(answers) == 1:
            start = x
        first = answers[-1][0]
        offered = _stepped(start, answers, sigma_next, eta, solver, predicts)
        if path is not None and sigma_next > 0:
            h = math.log(first / sigma_next)
            offered = offered + sigma_next * math.sqrt(-math.expm1(-2 * h)) * path(first, sigma_next)
        x = yield Step(offered, sigma_next, denoised)
        if x is not offered:
            answers = ()
    return x


def singlestep_orders(levels: int, order: int, *, first_order_final: bool = True) -> list[int]:
    """1, 2, 3, 1, 2, 3 … up to `order`, for so many levels, with a 1 at the end where asked for."""
    orders = [place % order + 1 for place in range(levels)]
    if first_order_final:
        orders[-1] = 1
    return orders


def _stepped(
    x: Tensor, answers: Answers, sigma_next: float, eta: float, solver: Literal["midpoint", "heun"], predicts: Predicts
) -> Tensor:
    """x at `sigma_next` from x at the oldest answer's level: the last line of Algorithm 1, and its like for three answers."""
    sigma, oldest = answers[-1]
    if predicts == "data":
        ratio = (sigma_next / sigma) ** (1 + eta)
        x, scale, first = ratio * x, 1.0, 1 - ratio
    else:
        scale = -sigma_next
        first = sigma_next - sigma
    x = x + first * oldest
    if sigma_next == 0 or len(answers) == 1:
        return x
    h = math.log(sigma / sigma_next)
    z = (1 + eta) * h if predicts == "data" else -h
    ratios = [math.log(sigma / level) / h for level, _ in answers[:-1]]
    slopes = [(answer - oldest) / ratio for ratio, (_, answer) in zip(ratios, answers, strict=False)]
    straight = abs(z) * phi(2, -z)
    if len(answers) == 2:
        return x + scale * (straight if solver == "heun" else abs(math.expm1(-z)) / 2) * slopes[0]
    if solver == "midpoint":
        return x + scale * straight * slopes[0]
    slanted = (ratios[0] * slopes[1] - ratios[1] * slopes[0]) / (ratios[0] - ratios[1])
    bend = 2 * (slopes[0] - slopes[1]) / (ratios[0] - ratios[1])
    return x + scale * (straight * slanted + abs(z) * phi(3, -z) * bend)
