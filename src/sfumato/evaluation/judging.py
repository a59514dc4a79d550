"""Whether a picture shows what was asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sfumato.evaluation.features import Classifier
from sfumato.evaluation.gallery import Gallery
from sfumato.evaluation.prompts import Case
from sfumato.training.data.captions import Relation
from sfumato.training.data.colours import background_of, object_colour, object_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

_MARGIN = 1 / 32  # of free ground that a half's thing is given on each side: what the gallery's drawings have
_LEAST_PIXELS = 12  # fewer than so many are specks, no thing
NEAR = 5

# Which answer to an order of the halves is the one that was asked for: the first thing in the first half, or the second.
_FIRST_COMES_SECOND: frozenset[Relation] = frozenset({"right of", "below"})
_STACKED: frozenset[Relation] = frozenset({"above", "below"})

# In the order of the table: what the bars are about comes first.
MEASURES: dict[str, str] = {
    "colour": "colour right",
    "background": "background right",
    "found": "both found (top 5 of halves)",
    "place": "and where they belong",
    "top1": "nearest thing is it (top 1)",
    "top5": "among the nearest (top 5)",
    "style": "nearest in its style",
}

COMPOSITION = frozenset({"colour", "background", "found", "place"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was right, measure by measure (only those that the prompt can be held to), and what was seen.

    `taken_for`: the five nearest things, for each half where there are two. `descriptors`: of the picture or its halves, `n 1280`.
    """

    right: dict[str, bool]
    taken_for: tuple[tuple[str, ...], ...] = ()
    colour: str | None = None
    ground: str | None = None
    descriptors: "NDArray[np.float32]" = field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the picture shows what was asked for: the colour, ground or place, and the thing among the nearest; else the thing itself first."""
        asked = [right for measure, right in self.right.items() if measure in COMPOSITION]
        return all(asked) and self.right.get("top5" if asked else "top1", True)


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds pictures against prompts, by the gallery and by their pixels."""

    gallery: Gallery
    classifier: Classifier

    def judge(self, case: Case, picture: "Picture", *, hidden: str | None) -> Verdict:
        """Judge a picture (`h w 3`, uint8); the gallery's drawings in the style `hidden` are left out."""
        if len(case.answers) == 2:
            return self._judge_two(case, picture, hidden)
        descriptors = self.classifier.describe([picture])
        verdict = self.judge_descriptor(case, descriptors[0], hidden=hidden)
        right, colour, ground = dict(verdict.right), None, None
        if case.colour is not None:
            colour = object_colour(picture)
            right = {"colour": colour == case.colour, **right}
        if case.ground is not None:
            ground = background_of(picture)
            right = {"background": ground == case.ground, **right}
        return Verdict(right=right, taken_for=verdict.taken_for, colour=colour, ground=ground, descriptors=descriptors)

    def judge_descriptor(self, case: Case, descriptor: "NDArray[np.float32]", *, hidden: str | None) -> Verdict:
        """Which thing a picture of one thing shows, and in which style, by its descriptor alone."""
        (wanted,) = case.answers
        nearest = self.gallery.nearest(descriptor, hidden=hidden)[:NEAR]
        right = {"top1": nearest[0] in wanted, "top5": not wanted.isdisjoint(nearest)}
        if case.style is not None:
            right["style"] = self.gallery.nearest_style(descriptor, wanted) == case.style
        return Verdict(right=right, taken_for=(tuple(nearest),), descriptors=descriptor[None])

    def _judge_two(self, case: Case, picture: "Picture", hidden: str | None) -> Verdict:
        parts = list(halves(picture, stacked=case.relation in _STACKED))
        descriptors = self.classifier.describe([part for part in parts if part is not None])
        rest = iter(descriptors)
        nearest = [
            () if part is None else tuple(self.gallery.nearest(next(rest), hidden=hidden)[:NEAR]) for part in parts
        ]
        first, second = case.answers

        def shown(wanted: frozenset[str], half: int) -> bool:
            return not wanted.isdisjoint(nearest[half])

        in_order = shown(first, 0) and shown(second, 1)
        reversed_ = shown(second, 0) and shown(first, 1)
        right = {"found": in_order or reversed_}
        if case.relation is not None:
            right["place"] = reversed_ if case.relation in _FIRST_COMES_SECOND else in_order
        return Verdict(right=right, taken_for=tuple(nearest), descriptors=descriptors)


def halves(picture: "Picture", *, stacked: bool) -> "Iterator[Picture | None]":
    """What stands in the left and the right half of a picture (`h w 3`), or in the upper and the lower: cut out, square, on its ground.

    None for a half in which nothing stands.
    """
    shown = object_of(picture)
    axis = 0 if stacked else 1
    middle = picture.shape[axis] // 2
    for part in (slice(None, middle), slice(middle, None)):
        where = (part, slice(None)) if stacked else (slice(None), part)
        yield _cut_out(picture[where], shown[where])


def _cut_out(picture: "Picture", shown: "NDArray[np.bool_]") -> "Picture | None":
    if shown.sum() < _LEAST_PIXELS:
        return None
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    art = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(art.shape[:2])
    side = longest + 2 * max(1, round(longest * _MARGIN))
    page = np.empty((side, side, 3), np.uint8)
    # The ground's own colour, or white where the thing fills its half.
    page[:] = np.median(picture[~shown], axis=0).astype(np.uint8) if not shown.all() else 255
    top, left = (side - art.shape[0]) // 2, (side - art.shape[1]) // 2
    page[top : top + art.shape[0], left : left + art.shape[1]] = art
    return page
