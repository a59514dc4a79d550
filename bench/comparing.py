"""Medians of what was measured, and ratios of runs that lay beside each other."""

from dataclasses import dataclass
from statistics import median

from bench.results import Entry


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers, the least and the most of them, and how many there are."""

    median: float
    low: float
    high: float
    count: int


def spread(values: list[float]) -> Spread | None:
    """Of no numbers None."""
    return Spread(median(values), min(values), max(values), len(values)) if values else None


def figures(entry: Entry | None, contender: str, figure: str) -> Spread | None:
    """A contender's figure over all its turns; None if it has none."""
    if entry is None:
        return None
    found = [one.figures.get(figure) for one in entry.runs if one.contender == contender]
    return spread([float(one) for one in found if one is not None])


def ratio(entry: Entry | None, ours: str, peer: str, figure: str) -> Spread | None:
    """Our figure by the peer's, of each round by itself: what slows a shared machine for a while slows both. None unless they ran side by side."""
    if entry is None:
        return None
    sides: dict[tuple[int, int], dict[str, float]] = {}
    for one in entry.runs:
        if one.contender in (ours, peer) and one.figures.get(figure) is not None:
            sides.setdefault((one.round, one.pair), {})[one.contender] = float(one.figures[figure])
    return spread([both[ours] / both[peer] for both in sides.values() if len(both) == 2 and both[peer] > 0])
