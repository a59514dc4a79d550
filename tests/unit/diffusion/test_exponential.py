import math

import numpy as np
import pytest

from sfumato.diffusion.samplers.exponential import moments, phi, weights


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("z", [-8.0, -1.001, -0.999, -0.3, -1e-9, 0.0, 1e-9, 0.5, 0.999, 1.001, 3.0])
def test_phi_is_its_series(k: int, z: float) -> None:
    series = sum(z**j / math.factorial(j + k) for j in range(80))
    assert phi(k, z) == pytest.approx(series, rel=1e-11)


@pytest.mark.parametrize("kappa", [1.0, 2.0, -1.0])
def test_moments_are_their_integrals(kappa: float) -> None:
    h = 0.7
    nodes, shares = np.polynomial.legendre.leggauss(30)
    u = h * (nodes + 1) / 2
    for j, moment in enumerate(moments(4, h, kappa)):
        assert moment == pytest.approx(
            float(h / 2 * (shares * np.exp(-kappa * (h - u)) * (u / h) ** j).sum()), rel=1e-12
        )


def test_weights_integrate_polynomials_exactly() -> None:
    nodes, integrals = [0.0, -0.8, -2.1], moments(3, 0.4, 1.0)
    for power in range(3):
        total = sum(weight * node**power for weight, node in zip(weights(nodes, integrals), nodes, strict=True))
        assert total == pytest.approx(integrals[power])
