"""Counting what came out right, and how far two counts may lie apart by chance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

# Standard deviations: of two equally good models, one falls this far under the other in one measure of forty-four.
MARGIN = 2.0
# Standard deviations on both sides of a 95 % confidence interval.
DEVIATIONS = 1.96


@dataclass(frozen=True, slots=True)
class Score:
    """So many right of so many."""

    right: int = 0
    of: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.right + other.right, self.of + other.of)

    @property
    def share(self) -> float:
        """The share that is right, 0–1; 0 of nothing."""
        return self.right / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the share; all of 0–1 for nothing.

        Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
        """
        if not self.of:
            return 0.0, 1.0
        z2 = DEVIATIONS**2
        middle = (self.right + z2 / 2) / (self.of + z2)
        half = DEVIATIONS / (self.of + z2) * sqrt(self.right * (self.of - self.right) / self.of + z2 / 4)
        return max(0.0, middle - half), min(1.0, middle + half)

    def floor(self, of: int) -> float:
        """The share that a model as good as this one reaches nearly always, in a test of `of` pictures.

        Both counts are binomial: the difference of two shares has the variance p (1 - p) (1 / n + 1 / m). p is estimated as
        (right + 1) / (n + 2), so that 0 % and 100 % have a margin too. Two standard deviations below the share.
        """
        if not (self.of and of):
            return 0.0
        p = (self.right + 1) / (self.of + 2)
        return max(0.0, self.share - MARGIN * sqrt(p * (1 - p) * (1 / self.of + 1 / of)))


def tally(verdicts: Iterable[Mapping[str, bool]]) -> dict[str, Score]:
    """Each measure's score over many verdicts; a measure counts where it was taken."""
    scores: dict[str, Score] = {}
    for verdict in verdicts:
        for measure, right in verdict.items():
            scores[measure] = scores.get(measure, Score()) + Score(int(right), 1)
    return scores
