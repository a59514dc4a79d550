"""Pictures nobody drew, made of art that somebody did: recoloured, placed, mirrored, paired, on coloured grounds, with exact captions."""

import hashlib
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

from sfumato.errors import DataError
from sfumato.training.config import expect
from sfumato.training.data.captions import (
    SHADES,
    Description,
    Place,
    Relation,
    Size,
    Subject,
    caption,
    plurals_of,
    possible_words,
)
from sfumato.training.data.colours import OBJECT_COLOURS, TYPICAL, dominant_colour, paint, recolour
from sfumato.training.data.pack import ArtDataset
from sfumato.training.data.strangers import Strangers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD_OUT_COLOURS = 0.1  # share of (thing, colour) that is never shown, to see whether colours are understood
_MIRRORED = 0.3  # of the drawings in composed scenes; plain art stays as it was drawn
# What would be another thing, or no writing, in a mirror.
_HAS_A_SIDE = re.compile(r"\b(?:left|right)|clock|\b(?:button|keycap|letters?|numbers?|calendar|hundred|sign)\b")
_NOT_GROUNDS = frozenset({"white"})
_SHADES = dict(zip(SHADES, ((0.13, 0.55), (-0.2, 0.85)), strict=True))  # added to lightness, times chroma
_TAKES_SHADES = ("red", "green", "blue", "purple", "brown", "gray")
_CENTRES: dict[Place, tuple[float, float]] = {
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
    "top left corner": (0.27, 0.27),
    "top right corner": (0.73, 0.27),
    "bottom left corner": (0.27, 0.73),
    "bottom right corner": (0.73, 0.73),
}
_RELATED: dict[Relation, tuple[tuple[float, float], tuple[float, float]]] = {
    "left of": ((0.26, 0.5), (0.74, 0.5)),
    "right of": ((0.74, 0.5), (0.26, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
    "below": ((0.5, 0.74), (0.5, 0.26)),
}
# Where so many of a thing stand, and their side as a share of the picture's.
_Layout: TypeAlias = tuple[tuple[tuple[float, float], ...], float]
_SEVERAL: dict[int, tuple[_Layout, ...]] = {
    2: ((((0.26, 0.5), (0.74, 0.5)), 0.48),),
    3: ((((0.5, 0.26), (0.26, 0.74), (0.74, 0.74)), 0.48), (((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)), 0.31)),
    4: ((((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)), 0.48),),
}
COMPOSING = 2
"""Which scenes and captions a seed gives: one more whenever they become others, so that kept ones are not taken for them."""

_KINDS = ("plain", "coloured", "grounded", "two", "placed", "several")


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneMix:
    """How often each kind of scene is made; the shares are weights. Every kind but `plain` may also take a ground, with the chance `grounds`.

    A share `by_style` of drawings is chosen by the style first, every style alike: by the thing first, styles of few drawings are hardly seen.
    A share `strange` of captions holds words that the model is to read as nothing (see `strangers`).
    """

    plain: float = 0.35
    coloured: float = 0.2
    grounded: float = 0.18
    two: float = 0.17
    placed: float = 0.1
    several: float = 0.0
    grounds: float = 0.3
    by_style: float = 0.0
    strange: float = 0.0

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in _KINDS}
        for name, share in shares.items():
            expect(0 <= share < math.inf, name, share, "a finite number of at least 0")
        expect(sum(shares.values()) > 0, "plain", self.plain, "a share above 0 of some kind of scene")
        for name in ("grounds", "by_style", "strange"):
            expect(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed picture, `size size 3` in 0–255, what it shows, and which rows of the dataset it is made of."""

    pixels: "NDArray[np.uint8]"
    description: Description
    rows: tuple[int, ...]

    def captions(self, count: int, rng: random.Random) -> tuple[str, ...]:
        """So many wordings of what it shows, in words that are all taught; a maker's `captions` are what a run reads."""
        return tuple(caption(self.description, rng) for _ in range(count))


def is_held_out(thing: str, colour: str) -> bool:
    """Whether scenes never show this thing recoloured so: one of ten combinations, by a hash."""
    digest = hashlib.sha256(f"{thing}/{colour}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < _HELD_OUT_COLOURS


def possible_words_of(data: ArtDataset) -> frozenset[str]:
    """Every word that a caption of scenes of a dataset's taught art may hold, held-out art among it."""
    taught = [record for record in data.records if record.names]
    return possible_words(
        {name for record in taught for name in record.names},
        {keyword for record in taught for keyword in record.keywords},
        {record.style for record in taught},
    )


@dataclass(frozen=True, slots=True)
class SceneMaker:
    """Composes scenes of the taught training art of a dataset, each the same whenever its number is asked for.

    `rows` are the drawings to use (default: the taught ones of the training split). Things are equally likely, however
    many styles they have, but for the mix's share `by_style`.
    """

    data: ArtDataset
    mix: SceneMix = SceneMix()
    seed: int = 0
    rows: tuple[int, ...] | None = None
    _by_thing: dict[str, list[int]] = field(init=False, default_factory=dict, repr=False)
    _by_style: dict[str, list[int]] = field(init=False, default_factory=dict, repr=False)
    _strangers: Strangers | None = field(init=False, default=None, repr=False)
    # What is found out about a drawing is remembered: its own colour, and the colours it can't take.
    _own: dict[int, str | None] = field(init=False, default_factory=dict, repr=False)
    _refused: set[tuple[int, str]] = field(init=False, default_factory=set, repr=False)

    def __post_init__(self) -> None:
        rows = self.data.where(split="train", taught=True).tolist() if self.rows is None else self.rows
        for row in rows:
            record = self.data.records[row]
            self._by_thing.setdefault(record.thing, []).append(row)
            self._by_style.setdefault(record.style, []).append(row)
        if not self._by_thing:
            raise DataError("the dataset has no taught art to compose scenes of; build it again: sfumato data build.")
        if self.mix.strange:
            names = {name for record in self.data.records for name in record.names}
            object.__setattr__(self, "_strangers", Strangers.to(possible_words_of(self.data), names))

    def captions(self, scene: Scene, count: int, rng: random.Random) -> tuple[str, ...]:
        """So many wordings of what a scene shows, some with strange words among the others, as the mix says."""
        said = scene.captions(count, rng)
        if (strangers := self._strangers) is None:
            return said
        return tuple(strangers.among(text, rng) if rng.random() < self.mix.strange else text for text in said)

    def pairs(self, scene: Scene, count: int, rng: random.Random) -> list[tuple[str, str]]:
        """So many wordings of what a scene shows, each beside the plainest that says the same, which has no strange words."""
        found: list[tuple[str, str]] = []
        for _ in range(count):
            drawn = rng.getstate()
            plain = caption(scene.description, rng, plain=True)
            rng.setstate(drawn)
            (said,) = self.captions(scene, 1, rng)
            found.append((said, plain))
        return found

    def scenes(self, first: int, count: int) -> Iterator[Scene]:
        """Scenes number `first` to `first + count`."""
        return (self.scene(number) for number in range(first, first + count))

    def chance(self, number: int) -> random.Random:
        """The source of chance of a scene; what draws its captions goes on with it."""
        return random.Random(f"{self.seed}/{number}")

    def scene(self, number: int) -> Scene:
        """Scene `number`."""
        return self.compose(self.chance(number))

    def compose(self, rng: random.Random) -> Scene:
        """A scene of a kind drawn from the mix."""
        mix = self.mix
        kind = rng.choices(_KINDS, [getattr(mix, kind) for kind in _KINDS])[0]
        ground = kind == "grounded" or (kind != "plain" and rng.random() < mix.grounds)
        if kind == "two":
            return self._two(rng, ground=ground)
        if kind == "several":
            return self._several(rng, ground=ground)
        row = self._row(rng)
        size: Size | None = None
        place: Place | None = None
        if kind == "placed":
            place = rng.choice(list(_CENTRES)) if rng.random() < 0.6 else None
            size = "small" if place is None or rng.random() < 0.3 else None
            if place is None and rng.random() < 0.4:
                size = "big"
        coloured = kind == "coloured" or (kind != "plain" and rng.random() < 0.15)
        art, subject = self._subject(row, rng, coloured=coloured, size=size)
        if place:
            scale = rng.uniform(0.32, 0.4) if size else rng.uniform(0.46, 0.52)
        else:
            scale = {"small": rng.uniform(0.36, 0.46), "big": rng.uniform(1.0, 1.05), None: 1.0}[size]
            if size is None and ground:
                scale = rng.uniform(0.78, 0.95)
        centre = _CENTRES[place] if place else (0.5, 0.5)
        name, page = self._page(rng, (subject,), ground=ground)
        self._paste(page, art, centre, scale, mirrored=kind != "plain" and self._may_mirror(row, rng))
        scene = Description(subjects=(subject,), place=place, ground=name)
        return Scene(np.asarray(page), scene, (row,))

    def _two(self, rng: random.Random, *, ground: bool) -> Scene:
        first = self._row(rng)
        second = self._beside(first, rng)
        relation: Relation = rng.choices(("left of", "right of", "above", "below"), (4, 2, 1, 1))[0]
        arts = [self._subject(row, rng, coloured=rng.random() < 0.2) for row in (first, second)]
        subjects = tuple(subject for _, subject in arts)
        name, page = self._page(rng, subjects, ground=ground)
        for row, (art, _), centre in zip((first, second), arts, _RELATED[relation], strict=True):
            scale = rng.uniform(0.46, 0.5)  # with the margin of drawings, each in its half
            self._paste(page, art, centre, scale, mirrored=self._may_mirror(row, rng))
        scene = Description(subjects=subjects, relation=relation, ground=name)
        return Scene(np.asarray(page), scene, (first, second))

    def _several(self, rng: random.Random, *, ground: bool) -> Scene:
        """The same thing twice to four times; once, where no dozen draws hold one that is counted."""
        rows = [self._row(rng) for _ in range(12)]
        counted = [row for row in rows if plurals_of(self.data.records[row].names)]
        row = (counted or rows)[0]
        count = rng.choices((2, 3, 4), (4, 3, 2))[0] if counted else 1
        centres, side = rng.choice(_SEVERAL[count]) if counted else (((0.5, 0.5),), 0.9)
        art, subject = self._subject(row, rng, coloured=rng.random() < 0.2)
        subject = replace(subject, count=count)
        name, page = self._page(rng, (subject,), ground=ground)
        mirrored = self._may_mirror(row, rng)
        scale = side * rng.uniform(0.88, 1.0)  # they don't touch
        for centre in centres:
            self._paste(page, art, centre, scale, mirrored=mirrored)
        return Scene(np.asarray(page), Description(subjects=(subject,), ground=name), (row,))

    def _row(self, rng: random.Random) -> int:
        of = self._by_style if self.mix.by_style and rng.random() < self.mix.by_style else self._by_thing
        return rng.choice(of[rng.choice(list(of))])

    def _beside(self, first: int, rng: random.Random) -> int:
        """Another thing in the style of the first, which is all that a caption says of the style; where there is none, the first again."""
        record = self.data.records[first]

        def fits(row: int) -> bool:
            return self.data.records[row].style == record.style and self.data.records[row].thing != record.thing

        # A dozen draws nearly always hold one; all rows are looked through where they don't.
        others = list(filter(fits, [self._row(rng) for _ in range(12)]))
        if not others and (any_other := [row for rows in self._by_thing.values() for row in rows if fits(row)]):
            others = [rng.choice(any_other)]
        return others[0] if others else first

    def _may_mirror(self, row: int, rng: random.Random) -> bool:
        record = self.data.records[row]
        return rng.random() < _MIRRORED and not any(map(_HAS_A_SIDE.search, (record.thing, *record.names)))

    def _subject(
        self, row: int, rng: random.Random, *, coloured: bool, size: Size | None = None
    ) -> "tuple[NDArray[np.uint8], Subject]":
        record, art = self.data.records[row], self.data.pixels[row]
        if row not in self._own:
            self._own[row] = dominant_colour(art)
        colour, recoloured = self._own[row], False
        if coloured:
            wanted = [c for c in OBJECT_COLOURS if c != colour and not is_held_out(record.thing, c)]
            for choice in rng.sample(wanted, len(wanted)):
                turned = None if (row, choice) in self._refused else recolour(art, choice)
                if turned is not None:
                    art, colour, recoloured = turned, choice, True
                    break
                self._refused.add((row, choice))
        subject = Subject(
            names=record.names,
            style=record.style,
            keywords=record.keywords,
            colour=colour,
            recoloured=recoloured,
            size=size,
        )
        return art, subject

    def _ground(self, rng: random.Random, subjects: tuple[Subject, ...]) -> tuple[str, tuple[int, int, int]]:
        # On a ground of its own colour a thing is not to be seen.
        own = {subject.colour for subject in subjects}
        name = rng.choice([n for n in TYPICAL if n not in _NOT_GROUNDS | own])
        lightness, chroma, hue = TYPICAL[name]
        shade = rng.choice(list(_SHADES)) if name in _TAKES_SHADES and rng.random() < 0.2 else ""
        if shade:
            more, times = _SHADES[shade]
            lightness, chroma = lightness + more, chroma * times
        jittered = paint(
            lightness + rng.uniform(-0.03, 0.03), chroma * rng.uniform(0.85, 1.1), hue + rng.uniform(-5, 5)
        )
        called = "grey" if name == "gray" and rng.random() < 0.4 else name
        return f"{shade} {called}".strip(), jittered

    def _page(
        self, rng: random.Random, subjects: tuple[Subject, ...], *, ground: bool
    ) -> tuple[str | None, Image.Image]:
        """What the ground is called, and a picture of nothing else; white, which has no name, unless a `ground` is asked for."""
        name, colour = self._ground(rng, subjects) if ground else (None, (255, 255, 255))
        return name, Image.new("RGB", (self.data.size, self.data.size), colour)

    def _paste(
        self, page: Image.Image, art: "NDArray[np.uint8]", centre: tuple[float, float], scale: float, *, mirrored: bool
    ) -> None:
        side = page.width
        drawing = Image.fromarray(art[:, ::-1] if mirrored else art)
        length = round(side * scale)
        if length != side:
            # Pillow resizes RGBA with its colours weighted by alpha: no fringes.
            drawing = drawing.resize((length, length), Image.Resampling.LANCZOS)
        x, y = (round(side * c - length / 2) for c in centre)
        page.paste(drawing, (x, y), drawing)
