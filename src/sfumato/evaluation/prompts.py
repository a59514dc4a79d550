"""What the model is asked in an evaluation: seven kinds of prompts, the same for the same gallery, count and seed.

    trained        "a rocket, 3d style"                      a drawing that it has learned from
    held_out       "a rocket, noto style"                    a thing and a style it knows, and a drawing that it has never seen
    phrasings      "i would like a spaceship, glossy style"  other names, other words around them
    colours        "a blue apple"                            colours that the art does not have
    new_colours    "a purple penguin, flat style"            a thing in a colour that it has never seen it in
    backgrounds    "a dog on a yellow background"
    two_things     "a cat and a pizza", "a dog to the left of a tree"

A longer run asks what a shorter one asks, and more. Every other prompt of the last four kinds names a style.
"""

import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

from sfumato.evaluation.gallery import Entry
from sfumato.training.data.captions import Relation, with_article, without_colour
from sfumato.training.data.colours import TYPICAL
from sfumato.training.data.scenes import is_held_out

Kind = Literal["trained", "held_out", "phrasings", "colours", "new_colours", "backgrounds", "two_things"]

# "{a}" stands for the name with its article, "{n}" for the bare name; some wordings are no caption's that the model has learned from.
PHRASINGS = (
    "{n}", "{a}", "a picture of {a}", "i would like {a}", "{n} emoji", "one {n} by itself", "clip art of {a}", "draw me {a} please",
    "the {n}", "{n}, isolated", "a sticker showing {a}", "what {a} looks like", "my favourite {n}",
)  # fmt: skip
GROUNDS = tuple(name for name in TYPICAL if name != "white")
# "and" leaves the order open; half of the prompts say where each thing stands.
ARRANGEMENTS: tuple[tuple[str, Relation | None], ...] = (
    ("{} and {}", None),
    ("{} to the left of {}", "left of"),
    ("{} and {}", None),
    ("{} to the right of {}", "right of"),
    ("{} and {}", None),
    ("{} above {}", "above"),
    ("{} and {}", None),
    ("{} below {}", "below"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One prompt, the seed it is drawn with, and what the picture has to show.

    `answers` are, for each thing that is asked for, the things that the words fit; `style` is None where the prompt names none; `art` are the
    drawings of real art, thing and style, that show the same.
    """

    kind: Kind
    prompt: str
    seed: int
    answers: tuple[frozenset[str], ...]
    art: tuple[tuple[str, str], ...]
    style: str | None = None
    colour: str | None = None
    ground: str | None = None
    relation: Relation | None = None


@dataclass(frozen=True)
class Repertoire:
    """The drawings that a model may be asked for: those in its styles, of things it has a name for."""

    entries: tuple[Entry, ...]

    def of_model(self, styles: Collection[str] | None, names: Collection[str] | None) -> "Repertoire":
        """Only what a model with these styles and listed names knows; None is no limit."""
        listed = None if names is None else {name.lower() for name in names}
        return Repertoire(
            tuple(
                entry
                for entry in self.entries
                if (styles is None or entry.style in styles)
                and (listed is None or any(name.lower() in listed for name in entry.names))
            )
        )

    def called(self, name: str, *, less_colour: bool = False) -> frozenset[str]:
        """The things that a name fits; with `less_colour`, that it fits but for their colour: "heart" fits the red and the blue one."""
        return (self._less_colour if less_colour else self._whole).get(name, frozenset())

    @cached_property
    def _whole(self) -> dict[str, frozenset[str]]:
        return self._by_name(str)

    @cached_property
    def _less_colour(self) -> dict[str, frozenset[str]]:
        return self._by_name(without_colour)

    def _by_name(self, of: Callable[[str], str]) -> dict[str, frozenset[str]]:
        things: dict[str, set[str]] = {}
        for entry in self.entries:
            for name in entry.names:
                things.setdefault(of(name.lower()), set()).add(entry.thing)
        return {name: frozenset(called) for name, called in things.items()}


def cases_of(kind: Kind, repertoire: Repertoire, count: int, seed: int) -> list[Case]:
    """Up to `count` cases of a kind; fewer, or none, where the repertoire has no more."""
    return list(islice(_MAKERS[kind](repertoire, seed), count))


def _shuffled(entries: Sequence[Entry], *salt: object) -> list[Entry]:
    """In an order by hash: it stays what it was when other things come or go."""
    return sorted(
        entries, key=lambda e: hashlib.sha256("/".join(map(str, (*salt, e.thing, e.style))).encode()).digest()
    )


def _styled(said: str, style: str | None) -> str:
    return said if style is None else f"{said}, {style} style"


def _pairs(kind: Kind, split: str) -> Callable[[Repertoire, int], Iterator[Case]]:
    def cases(repertoire: Repertoire, seed: int) -> Iterator[Case]:
        taught = [entry for entry in repertoire.entries if entry.split == split]
        for place, entry in enumerate(_shuffled(taught, seed, kind)):
            name = entry.names[0].lower()
            yield Case(
                kind=kind,
                prompt=_styled(with_article(name), entry.style),
                seed=seed + place,
                answers=(repertoire.called(name),),
                art=((entry.thing, entry.style),),
                style=entry.style,
            )

    return cases


def _phrasings(repertoire: Repertoire, seed: int) -> Iterator[Case]:
    for place, entry in enumerate(_learned(repertoire, seed, "phrasings")):
        rng = random.Random(f"{seed}/phrasings/{place}")
        name = rng.choice(entry.names[1:] or entry.names).lower()
        style = entry.style if place % 2 else None
        said = PHRASINGS[place % len(PHRASINGS)].format(n=name, a=with_article(name))
        yield Case(
            kind="phrasings",
            prompt=_styled(said, style),
            seed=seed + place,
            answers=(repertoire.called(name),),
            art=((entry.thing, entry.style),),
            style=style,
        )


def _colours(kind: Kind, *, held_out: bool) -> Callable[[Repertoire, int], Iterator[Case]]:
    def cases(repertoire: Repertoire, seed: int) -> Iterator[Case]:
        place = 0
        for entry in _learned(repertoire, seed, kind):
            name = without_colour(entry.names[0].lower())
            colours = [
                colour
                for colour in entry.colours
                # A blue heart is a thing of its own: no drawing would have to be thought up.
                if is_held_out(entry.thing, colour) == held_out and not repertoire.called(f"{colour} {name}")
            ]
            if not colours:
                continue
            colour = random.Random(f"{seed}/{kind}/{entry.thing}").choice(colours)
            style = entry.style if place % 2 else None
            yield Case(
                kind=kind,
                prompt=_styled(with_article(f"{colour} {name}"), style),
                seed=seed + place,
                answers=(repertoire.called(name, less_colour=True),),
                art=((entry.thing, entry.style),),
                style=style,
                colour=colour,
            )
            place += 1

    return cases


def _backgrounds(repertoire: Repertoire, seed: int) -> Iterator[Case]:
    for place, entry in enumerate(_learned(repertoire, seed, "backgrounds")):
        ground = GROUNDS[place % len(GROUNDS)]
        name = entry.names[0].lower()
        style = entry.style if place % 2 else None
        yield Case(
            kind="backgrounds",
            prompt=_styled(f"{with_article(name)} on {with_article(ground)} background", style),
            seed=seed + place,
            answers=(repertoire.called(name),),
            art=((entry.thing, entry.style),),
            style=style,
            ground=ground,
        )


def _two_things(repertoire: Repertoire, seed: int) -> Iterator[Case]:
    firsts = _learned(repertoire, seed, "two_things")
    for place, first in enumerate(firsts):
        others = [e for e in firsts if e.style == first.style and e.thing != first.thing]
        if not others:
            continue
        second = random.Random(f"{seed}/two_things/{place}").choice(others)
        words, relation = ARRANGEMENTS[place % len(ARRANGEMENTS)]
        names = [entry.names[0].lower() for entry in (first, second)]
        style = first.style if (place // 2 + place // len(ARRANGEMENTS)) % 2 else None
        yield Case(
            kind="two_things",
            prompt=_styled(words.format(*map(with_article, names)), style),
            seed=seed + place,
            answers=tuple(repertoire.called(name) for name in names),
            art=tuple((entry.thing, entry.style) for entry in (first, second)),
            style=style,
            relation=relation,
        )


def _learned(repertoire: Repertoire, seed: int, kind: Kind) -> list[Entry]:
    """What it has learned from, each thing once before any comes again."""
    seen: dict[str, int] = {}
    rounds: list[tuple[int, Entry]] = []
    for entry in _shuffled([e for e in repertoire.entries if e.split == "train"], seed, kind):
        seen[entry.thing] = seen.get(entry.thing, -1) + 1
        rounds.append((seen[entry.thing], entry))
    return [entry for _, entry in sorted(rounds, key=lambda pair: pair[0])]


_MAKERS: dict[Kind, Callable[[Repertoire, int], Iterator[Case]]] = {
    "trained": _pairs("trained", "train"),
    "held_out": _pairs("held_out", "held_out"),
    "phrasings": _phrasings,
    "colours": _colours("colours", held_out=False),
    "new_colours": _colours("new_colours", held_out=True),
    "backgrounds": _backgrounds,
    "two_things": _two_things,
}
KINDS: tuple[Kind, ...] = tuple(_MAKERS)
