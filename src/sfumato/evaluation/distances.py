"""How far the pictures of a model lie from real art as a whole, in the classifier's eyes.

With some hundred pictures the covariance of 1,280 numbers can't be had: its estimate has rank n - 1, and the Fréchet distance of two samples of
one distribution is then far from 0. So it is taken along the art's chief directions only, where n pictures outnumber the dimensions; what
is left of the bias the same number for real art shows, with as many pictures. Beside it stands the maximum mean discrepancy, which is
unbiased at any size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECTIONS = 32
LEAST_PICTURES = 2 * DIRECTIONS  # for a Fréchet distance; fewer have no covariance worth the name


@dataclass(frozen=True, slots=True)
class Directions:
    """The mean of some rows (`n d`), and the directions in which they vary most (`d k`)."""

    mean: "NDArray[np.float64]"
    axes: "NDArray[np.float64]"

    @classmethod
    def of(cls, rows: "NDArray[np.floating]", count: int = DIRECTIONS) -> "Directions":
        """The chief directions of the rows, by singular values."""
        mean = rows.mean(0, dtype=np.float64)
        axes = np.linalg.svd(rows - mean, full_matrices=False)[2][:count].T
        return cls(mean, axes)

    def along(self, rows: "NDArray[np.floating]") -> "NDArray[np.float64]":
        """Rows (`n d`) as coordinates along the directions (`n k`)."""
        return (rows - self.mean) @ self.axes


def frechet_distance(a: "NDArray[np.floating]", b: "NDArray[np.floating]") -> float:
    """The squared Fréchet distance of two samples (`n k`, `m k`), each taken as Gaussian.

    |mean_a - mean_b|² + tr(A + B - 2 (A B)^½). Source: Heusel et al. 2017, arXiv:1706.08500, Eq. 6 (Dowson & Landau 1982).
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # A B is similar to A^½ B A^½, which is symmetric: the trace of its root is the sum of the roots of its eigenvalues.
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    of_product = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    between = np.square(a.mean(0) - b.mean(0)).sum()
    return float(between + np.trace(cov_a) + np.trace(cov_b) - 2 * of_product)


def mean_discrepancy(a: "NDArray[np.floating]", b: "NDArray[np.floating]", bandwidth: float) -> float:
    """The unbiased squared maximum mean discrepancy of two samples (`n d`, `m d`), with a Gaussian kernel; about 0, on either side, for one distribution.

    Source: Gretton et al. 2012, JMLR 13, Eq. 3; on features of pictures, Jayasumana et al. 2024, arXiv:2401.09603.
    """

    def kernel(x: "NDArray[np.floating]", y: "NDArray[np.floating]") -> "NDArray[np.floating]":
        squared = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
        return np.exp(-np.maximum(squared, 0) / (2 * bandwidth**2))

    def without_itself(x: "NDArray[np.floating]") -> float:
        n = len(x)
        return (kernel(x, x).sum() - n) / (n * (n - 1))

    return float(without_itself(a) + without_itself(b) - 2 * kernel(a, b).mean())


def median_distance(rows: "NDArray[np.floating]") -> float:
    """The median distance of two rows: the usual bandwidth of a Gaussian kernel."""
    squared = np.square(rows).sum(1)[:, None] + np.square(rows).sum(1) - 2 * rows @ rows.T
    return float(np.sqrt(np.median(np.maximum(squared[np.triu_indices(len(rows), 1)], 0))))
