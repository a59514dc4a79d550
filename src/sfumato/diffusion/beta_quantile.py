"""Quantiles of the beta distribution, for the schedule that takes its levels from one."""

import math
from functools import lru_cache

# Far more than are ever needed where the fraction is used, which is on the side where it converges fast.
_MOST_TERMS = 500
_HALVINGS = 60


@lru_cache(maxsize=8192)
def beta_quantile(share: float, a: float, b: float) -> float:
    """The value that `share` of a beta distribution lies below, to about 1e-15; `a` and `b` above 0, `share` from 0 to 1.

    Halves the interval that it lies in: the distribution function rises everywhere.
    """
    low, high = 0.0, 1.0
    if share in (low, high):
        return share
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_share(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def beta_share(x: float, a: float, b: float) -> float:
    """How much of a beta distribution lies below x, from 0 to 1: the regularised incomplete beta function.

    Source: NIST Digital Library of Mathematical Functions, 8.17.22 (the continued fraction) and 8.17.4 (the other side by symmetry).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + …)), from the front, until a term changes nothing (Lentz's method)."""
    value, upper, lower = 1.0, 1.0, 0.0
    for term in range(1, _MOST_TERMS):
        m = term // 2
        top = m * (b - m) * x if term % 2 == 0 else -(a + m) * (a + b + m) * x
        d = top / ((a + term - 1) * (a + term))
        lower = 1 / (1 + d * lower)
        upper = 1 + d / upper
        value *= upper * lower
        if abs(upper * lower - 1) < 1e-16:
            break
    return value
