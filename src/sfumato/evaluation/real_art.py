"""Real art in the tests that the model is put to: the gallery is made of it, and it sets the mark."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sfumato.errors import DataError
from sfumato.evaluation.features import Classifier
from sfumato.evaluation.gallery import Entry, Gallery, RealScores
from sfumato.evaluation.judging import Judge, Verdict
from sfumato.evaluation.prompts import Case, Kind, Repertoire, cases_of
from sfumato.evaluation.scores import Score, tally
from sfumato.training.data.captions import Relation
from sfumato.training.data.colours import OBJECT_COLOURS, TYPICAL, dominant_colour, paint, recolour
from sfumato.training.data.pack import ArtDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

# Kinds whose real pictures are composed; those of the others are drawings of the gallery.
COMPOSED: tuple[Kind, ...] = ("colours", "new_colours", "backgrounds", "two_things")
CASES = 400  # of each, from which real art's score is taken
_ON_GROUND = 0.86  # side of a drawing on a coloured ground, as a share of the picture's
_OF_TWO = 0.5
# Centres of the first and the second of two things, as shares of width and height.
_CENTRES: dict[Relation | None, tuple[tuple[float, float], tuple[float, float]]] = {
    None: ((0.25, 0.5), (0.75, 0.5)),
    "left of": ((0.25, 0.5), (0.75, 0.5)),
    "right of": ((0.75, 0.5), (0.25, 0.5)),
    "above": ((0.5, 0.25), (0.5, 0.75)),
    "below": ((0.5, 0.75), (0.5, 0.25)),
}


def compose(case: Case, art: "Sequence[Picture]") -> "Picture":
    """The picture (`size size 3`) that a case asks for, made of its drawings (`size size 4` each): recoloured, on its ground, side by side."""
    if case.colour is not None:
        turned = [recolour(drawing, case.colour) for drawing in art]
        art = [drawing if new is None else new for drawing, new in zip(art, turned, strict=True)]
    side = art[0].shape[0]
    page = Image.new("RGB", (side, side), "white" if case.ground is None else paint(*TYPICAL[case.ground]))
    centres = _CENTRES[case.relation] if len(art) == 2 else ((0.5, 0.5),)
    share = _OF_TWO if len(art) == 2 else 1.0 if case.ground is None else _ON_GROUND
    for drawing, centre in zip(art, centres, strict=True):
        length = round(side * share)
        image = Image.fromarray(drawing)
        if length != side:
            image = image.resize((length, length), Image.Resampling.LANCZOS)
        x, y = (round(side * c - length / 2) for c in centre)
        page.paste(image, (x, y), image)
    return np.asarray(page)


def judge_drawing(judge: Judge, case: Case) -> Verdict:
    """How the real drawing of a case does in it, with the drawings of its own style left out of the gallery."""
    ((thing, style),) = case.art
    return judge.judge_descriptor(case, judge.gallery.descriptors[judge.gallery.row(thing, style)], hidden=style)


def build_gallery(
    data: ArtDataset,
    classifier: Classifier,
    *,
    things: int | None = None,
    cases: int = CASES,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Gallery:
    """The gallery of a dataset's taught art, with real art's scores in the kinds that are composed.

    `things` limits it to the drawings of so many things: those with a pair that was held out first, then by a hash of the name. `progress`
    hears of each picture and how many there are. Raises DataError for a dataset that teaches nothing.
    """
    rows = data.where(taught=True).tolist()
    if not rows:
        raise DataError(
            "the dataset teaches no thing, so there is nothing to compare with; build it: sfumato data build."
        )
    if things is not None:
        kept = _first_things(data, rows, things)
        rows = [row for row in rows if data.records[row].thing in kept]
    whole = len(rows) + cases * len(COMPOSED)
    descriptors: list[NDArray[np.float32]] = []
    entries: list[Entry] = []
    for row in rows:
        record, art = data.records[row], data.pixels[row]
        own = dominant_colour(art)
        colours = tuple(c for c in OBJECT_COLOURS if c != own and recolour(art, c) is not None)
        entries.append(
            Entry(thing=record.thing, style=record.style, split=record.split, names=record.names, colours=colours)
        )
        descriptors.append(classifier.describe([art])[0])
        progress(len(entries), whole)
    gallery = Gallery(
        descriptors=np.stack(descriptors),
        entries=tuple(entries),
        dataset_sha256=data.sha256,
        picture_size=data.size,
    )
    judge, scores = Judge(gallery, classifier), {}
    for place, kind in enumerate(COMPOSED):
        asked = cases_of(kind, Repertoire(gallery.entries), cases, seed)
        by_style: dict[str, list[dict[str, bool]]] = {}
        for number, case in enumerate(asked, start=1):
            art = [data.pixels[rows[gallery.row(*of)]] for of in case.art]
            style = case.art[0][1]
            by_style.setdefault(style, []).append(judge.judge(case, compose(case, art), hidden=style).right)
            progress(len(rows) + place * cases + number, whole)
        scores[kind] = {style: tally(verdicts) for style, verdicts in sorted(by_style.items())}
    return gallery.with_real_scores(scores)


def _first_things(data: ArtDataset, rows: Sequence[int], count: int) -> frozenset[str]:
    named = {data.records[row].thing for row in rows}
    held_out = {data.records[row].thing for row in rows if data.records[row].split == "held_out"}
    by_hash = sorted(named, key=lambda thing: (thing not in held_out, hashlib.sha256(thing.encode()).digest()))
    return frozenset(by_hash[:count])


def composed_scores(scores: RealScores, kind: Kind, styles: Sequence[str]) -> dict[str, Score]:
    """Real art's scores in a composed kind, over the art of some styles."""
    whole: dict[str, Score] = {}
    for style, measures in scores.get(kind, {}).items():
        if style in styles:
            for measure, score in measures.items():
                whole[measure] = whole.get(measure, Score()) + score
    return whole
