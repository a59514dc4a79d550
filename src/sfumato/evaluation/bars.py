"""The bars: how well the bundled model has to draw. The real one, and the smaller ones made on a processor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfumato.evaluation.scores import Score

REAL_MODEL_SIDE = 256  # pixels; smaller pictures come from the interim model


@dataclass(frozen=True, slots=True)
class Bar:
    """The least share that has to be right: of real art's share, where `of_real`."""

    least: float
    of_real: bool = False

    def __str__(self) -> str:
        return f"{self.least:.2f} × real" if self.of_real else f"{self.least:.2f}"

    def met(self, ours: Score, real: Score | None) -> bool:
        """Whether a score reaches the bar."""
        # Shares are quotients: one that is equal on paper may fall short in the last bit.
        return ours.share >= self.least * (real.share if self.of_real and real else 1.0) - 1e-9


REAL: Mapping[tuple[str, str], Bar] = {
    ("trained", "top1"): Bar(1.0, of_real=True),
    ("held_out", "top1"): Bar(0.9, of_real=True),
    ("colours", "colour"): Bar(0.9),
    ("backgrounds", "background"): Bar(0.95),
    ("two_things", "found"): Bar(0.7),
}
INTERIM: Mapping[tuple[str, str], Bar] = {
    ("trained", "top1"): Bar(0.75, of_real=True),
    ("colours", "colour"): Bar(0.8),
    ("backgrounds", "background"): Bar(0.8),
}


def bars_for(shape: Sequence[int]) -> Mapping[tuple[str, str], Bar]:
    """The bars for pictures of a shape (`h w 3`), by kind and measure."""
    return REAL if min(shape[:2]) >= REAL_MODEL_SIDE else INTERIM
