"""A model put to the test: prompts drawn, pictures judged, counted, and set beside real art."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sfumato.errors import OptionError
from sfumato.evaluation.distances import (
    DIRECTIONS,
    LEAST_PICTURES,
    Directions,
    frechet_distance,
    mean_discrepancy,
    median_distance,
)
from sfumato.evaluation.features import Classifier
from sfumato.evaluation.gallery import Gallery
from sfumato.evaluation.judging import Judge, Verdict
from sfumato.evaluation.prompts import KINDS, Case, Kind, Repertoire, cases_of
from sfumato.evaluation.real_art import COMPOSED, composed_scores, judge_drawing
from sfumato.evaluation.scores import Score, tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]


class Draws(Protocol):
    """Draws one picture (`h w 3`, uint8) for each prompt, with its seed; None for one that could not be made. Also what had to be said of each."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> "tuple[list[Picture | None], list[list[str]]]":
        """The pictures, and the notes on each."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A case, its picture (None: it could not be made), what is to be said of it, and the verdict."""

    case: Case
    picture: "Picture | None" = field(repr=False, compare=False)
    verdict: Verdict
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Distances:
    """How far some pictures lie from held-out art: Fréchet distance and mean discrepancy (each × 1000), of how many pictures and drawings."""

    frechet: float | None
    discrepancy: float
    pictures: int
    drawings: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KindResult:
    """One kind of prompt: what was drawn, the scores, and real art's in the same test."""

    kind: Kind
    drawn: tuple[Drawn, ...]
    scores: Mapping[str, Score]
    real: Mapping[str, Score]
    distances: Distances | None = None
    real_distances: Distances | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The results by kind, in order; kinds for which the model has no prompt are left out."""

    results: tuple[KindResult, ...]
    gallery_sha256: str
    count: int
    seed: int

    def scores(self) -> dict[str, dict[str, Score]]:
        """kind → measure → score."""
        return {result.kind: dict(result.scores) for result in self.results}


def evaluate(
    draw: Draws,
    gallery: Gallery,
    classifier: Classifier,
    repertoire: Repertoire,
    *,
    count: int = 100,
    seed: int = 0,
    kinds: Sequence[Kind] = KINDS,
    at_once: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Evaluation:
    """Draw up to `count` prompts of each kind and judge the pictures, `at_once` of them in one call of `draw`.

    `progress` hears how many of how many are done. Raises OptionError where the model can be asked for nothing.
    """
    asked = asked_of(repertoire, count, seed, kinds)
    whole = sum(map(len, asked.values()))
    judge, results, done = Judge(gallery, classifier), [], 0
    for kind, cases in asked.items():
        drawn: list[Drawn] = []
        for first in range(0, len(cases), at_once):
            group = cases[first : first + at_once]
            pictures, notes = draw([case.prompt for case in group], [case.seed for case in group])
            drawn += map(lambda *one: _judged(judge, *one), group, pictures, notes)
            progress(done := done + len(group), whole)
        if drawn:
            results.append(_result(judge, kind, drawn, repertoire, seed))
    return Evaluation(results=tuple(results), gallery_sha256=gallery.sha256, count=count, seed=seed)


def asked_of(repertoire: Repertoire, count: int, seed: int, kinds: Sequence[Kind]) -> dict[Kind, list[Case]]:
    """Up to `count` cases of each kind. Raises OptionError for a count under 1, and where a model can be asked for nothing."""
    if count < 1:
        raise OptionError(f"the count is {count}; expected 1 or more prompts of each kind")
    asked: dict[Kind, list[Case]] = {kind: cases_of(kind, repertoire, count, seed) for kind in kinds}
    if not any(asked.values()):
        raise OptionError(
            "the model knows no thing or style of the gallery, so there is nothing to ask it for; choose other kinds, or make "
            "a gallery of its art: sfumato eval gallery DATASET"
        )
    return asked


def _judged(judge: Judge, case: Case, picture: "Picture | None", notes: Sequence[str]) -> Drawn:
    if picture is not None:
        verdict = judge.judge(case, picture, hidden=case.style)
    else:
        # What could not be drawn shows nothing that was asked for.
        blank = judge.judge(case, np.full((64, 64, 3), 255, np.uint8), hidden=case.style)
        verdict = Verdict(right=dict.fromkeys(blank.right, False), descriptors=np.empty((0, 1280), np.float32))
    return Drawn(case=case, picture=picture, verdict=verdict, notes=tuple(notes))


def _result(judge: Judge, kind: Kind, drawn: Sequence[Drawn], repertoire: Repertoire, seed: int) -> KindResult:
    gallery = judge.gallery
    if kind in COMPOSED:
        styles = tuple(dict.fromkeys(entry.style for entry in repertoire.entries))
        real = composed_scores(gallery.real_scores, kind, styles)
    else:
        real = tally(judge_drawing(judge, one.case).right for one in drawn)
    ours = theirs = None
    if kind in ("trained", "held_out"):
        rows = [one.verdict.descriptors for one in drawn if one.picture is not None]
        ours = distances_to_held_out(gallery, np.concatenate(rows)) if rows else None
        theirs = distances_to_held_out(gallery, gallery.descriptors[_stand_ins(gallery, kind, drawn, seed)])
    return KindResult(
        kind=kind,
        drawn=tuple(drawn),
        scores=tally(one.verdict.right for one in drawn),
        real=real,
        distances=ours,
        real_distances=theirs,
    )


def _stand_ins(gallery: Gallery, kind: Kind, drawn: Sequence[Drawn], seed: int) -> list[int]:
    """As many drawings of the training split: the very ones, or, for held-out pairs, others in the same styles."""
    if kind == "trained":
        return [gallery.row(*one.case.art[0]) for one in drawn]
    rng = np.random.default_rng(seed)
    left = {
        style: rng.permutation(gallery.where(lambda e, style=style: e.style == style and e.split == "train")).tolist()
        for style in gallery.styles
    }
    return [left[style].pop() for one in drawn if left[style := one.case.art[0][1]]]


def distances_to_held_out(gallery: Gallery, rows: "NDArray[np.float32]") -> Distances | None:
    """How far pictures (descriptors, `n 1280`) lie from the gallery's held-out art; None where either is too few."""
    held_out = gallery.descriptors[gallery.where(lambda entry: entry.split == "held_out")]
    if min(len(rows), len(held_out)) < 2:
        return None
    directions = Directions.of(gallery.descriptors)
    enough = min(len(rows), len(held_out)) >= LEAST_PICTURES and directions.axes.shape[1] == DIRECTIONS
    frechet = frechet_distance(directions.along(rows), directions.along(held_out)) if enough else None
    return Distances(
        frechet=None if frechet is None else 1000 * frechet,
        discrepancy=1000 * mean_discrepancy(rows, held_out, median_distance(gallery.descriptors)),
        pictures=len(rows),
        drawings=len(held_out),
    )
