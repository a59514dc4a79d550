"""What exponential integrators are made of.

In lambda = -log sigma the ODE reads dx/dlambda = denoised - x. Its linear part is solved exactly, and where what is denoised is a polynomial in
lambda, so is the rest: `x' = exp(-h) x` and the integral of `exp(-(h - u)) denoised(u)` over a step of length h. Said for the noise, the
same is `x' = x - sigma'` times the integral of `exp(h - u) noise(u)`. Multistep samplers put the polynomial through answers they have.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

Answers: TypeAlias = Sequence[tuple[float, Tensor]]
"""Levels and what was answered there, the newest first."""

# Below this the closed form loses digits to cancellation, and the series has them all within its first terms.
_SMALL = 1.0


def phi(k: int, z: float) -> float:
    """`phi_k(z)`, k >= 1: the sum of z**j / (j + k)! over j >= 0; phi_1(z) = (exp(z) - 1) / z.

    Source: Hochbruck & Ostermann 2010, Exponential integrators, Acta Numerica 19, Eqs. 2.10 and 2.11.
    """
    if abs(z) < _SMALL:
        return sum(z**j / math.factorial(j + k) for j in range(20))
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z  # Eq. 2.11: phi_(j+1)(z) = (phi_j(z) - 1/j!) / z
    return value


def moments(count: int, h: float, kappa: float) -> list[float]:
    """The integrals of `exp(-kappa (h - u)) (u / h)**j` for u from 0 to h, j from 0 to count - 1."""
    return [h * math.factorial(j) * phi(j + 1, -kappa * h) for j in range(count)]


def weights(nodes: Sequence[float], integrals: Sequence[float]) -> list[float]:
    """Weights of values at `nodes` that integrate polynomials as `integrals` says: of as many powers as there are nodes, from 0 up."""
    powers = np.vander(np.array(nodes), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(powers, np.array(integrals))]


def slope(newer: tuple[float, Tensor], older: tuple[float, Tensor], h: float) -> Tensor:
    """How much the answers change over a step h of log sigma, by the straight line through two of them."""
    return (h / math.log(older[0] / newer[0])) * (newer[1] - older[1])


def slope_and_bend(answers: Answers, h: float) -> tuple[Tensor, Tensor]:
    """The slope at the newest of three answers, over a step h, of the parabola through them; and half its change over such a step.

    Source: Lu et al. 2022, arXiv:2211.01095, DPM-Solver++(3M): D1 and D2 of their code.
    """
    newer, older = slope(answers[0], answers[1], h), slope(answers[1], answers[2], h)
    r0, r1 = (math.log(answers[i + 1][0] / answers[i][0]) / h for i in (0, 1))
    bend = (newer - older) / (r0 + r1)
    return newer + r0 * bend, bend
