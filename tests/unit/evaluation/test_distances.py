"""Distances of samples whose distance is known."""

import numpy as np
import pytest

from sfumato.evaluation.distances import Directions, frechet_distance, mean_discrepancy, median_distance


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_frechet_distance_of_gaussians_is_the_formula_s(rng):
    # N(0, I) and N(m, s² I): |m|² + k (s - 1)².
    a = rng.normal(size=(200_000, 3))
    b = 2 * rng.normal(size=(200_000, 3)) + (1, 2, 0)
    assert frechet_distance(a, b) == pytest.approx(5 + 3, rel=0.02)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_it_knows_of_correlation(rng):
    # Equal variances, correlation r against none: 2 k - 2 tr sqrt(C), with the roots of 1 + r and 1 - r.
    a = rng.normal(size=(200_000, 2))
    b = rng.multivariate_normal((0, 0), ((1, 0.8), (0.8, 1)), 200_000)
    assert frechet_distance(a, b) == pytest.approx(4 - 2 * (1.8**0.5 + 0.2**0.5), rel=0.03)


def test_few_samples_of_one_distribution_lie_apart_and_the_discrepancy_does_not(rng):
    pairs = [(rng.normal(size=(80, 32)), rng.normal(size=(120, 32))) for _ in range(30)]
    assert min(frechet_distance(a, b) for a, b in pairs) > 1
    discrepancies = [mean_discrepancy(a, b, 8.0) for a, b in pairs]
    assert abs(np.mean(discrepancies)) < 3 * np.std(discrepancies) / 30**0.5
    assert mean_discrepancy(pairs[0][0], pairs[0][1] + 1, 8.0) > 20 * np.std(discrepancies)


def test_directions_are_those_of_greatest_variance(rng):
    rows = rng.normal(size=(500, 6)) * (0.1, 5, 0.1, 0.1, 3, 0.1) + 7
    found = Directions.of(rows, 2)
    assert sorted(np.abs(found.axes).argmax(0).tolist()) == [1, 4]
    np.testing.assert_allclose(found.along(rows).mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(2), atol=1e-9)


def test_the_median_distance():
    assert median_distance(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(2)
