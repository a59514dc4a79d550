"""Churn: noise put back before a step, so that the step has errors of earlier ones to correct."""

import math
from dataclasses import dataclass

from torch import Tensor

from sfumato.diffusion.conversation import Noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Churn:
    """How much noise goes back in before each step: `s_churn` over the whole run, at levels from `s_tmin` to `s_tmax`, its std times `s_noise`.

    Source: Karras et al. 2022, arXiv:2206.00364, Algorithm 2 (S_churn, S_tmin, S_tmax, S_noise).
    """

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0

    def lift(self, x: Tensor, sigma: float, steps: int, noise: Noise | None) -> tuple[Tensor, float]:
        """x and its level after the noise went in: lines 4 to 6 of Algorithm 2, for a run of so many steps.

        `noise` is drawn at every step of a run with churn, at the levels outside too, where nothing becomes of it: a seed then gives
        the same noise whatever the range.
        """
        if self.s_churn == 0:
            return x, sigma
        assert noise is not None, "churn needs a noise source"
        fresh = self.s_noise * noise()
        gamma = min(self.s_churn / steps, math.sqrt(2) - 1) if self.s_tmin <= sigma <= self.s_tmax else 0.0
        if gamma == 0:
            return x, sigma
        higher = sigma * (1 + gamma)  # line 5
        return x + math.sqrt(higher**2 - sigma**2) * fresh, higher  # line 6


NO_CHURN = Churn()
"""The deterministic sampler."""
