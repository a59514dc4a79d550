"""Linear multistep method on the probability-flow ODE."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step


def lms(x: Tensor, sigmas: Sequence[float], *, order: int = 4) -> Sampling:
    """Of that order (lower until it has the history), one evaluation a step, deterministic.

    Integrates, over the step, the polynomial in sigma through the last slopes: Adams-Bashforth with uneven steps.
    Source: K. Crowson's k-diffusion, sample_lms; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, section III.5.
    """
    slopes: list[Tensor] = []  # the newest first
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield Query(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[: order - 1]]
        visited = [sigmas[step - back] for back in range(len(slopes))]
        for slope, weight in zip(slopes, _weights(visited, sigma_next), strict=True):
            x = x + weight * slope
        x = yield Step(x, sigma_next, denoised)
    return x


def _weights(visited: Sequence[float], end: float) -> list[float]:
    """Integrals from visited[0] to end of the Lagrange polynomials through `visited`; exact, by Gauss-Legendre quadrature."""
    start = visited[0]
    nodes, node_weights = np.polynomial.legendre.leggauss((len(visited) + 1) // 2)
    points = [start + (end - start) * (float(node) + 1) / 2 for node in nodes]
    return [
        (end - start)
        / 2
        * sum(float(w) * _lagrange(visited, own, at) for at, w in zip(points, node_weights, strict=True))
        for own in range(len(visited))
    ]


def _lagrange(visited: Sequence[float], own: int, at: float) -> float:
    """The polynomial that is 1 at visited[own] and 0 at the others, evaluated at `at`."""
    return math.prod((at - other) / (visited[own] - other) for k, other in enumerate(visited) if k != own)
