"""What a prompt says, as a tree: its parts, what changes in them while a picture is drawn, and what is to be added to the model.

    Prompt ── networks: NetworkCall …                 <lora:name:0.8>
           └─ parts: Part (weight) …                  one AND another :0.5
                └─ pieces: str | Change | Alternation …
                        Change (before, after, when)  [before:after:0.4]
                        Alternation (choices)         [one|another]

Emphasis is not in the tree: its brackets may begin in one piece and end in another, so they stay in the text and are read at each step
(`emphasis.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast


@dataclass(frozen=True, slots=True)
class When:
    """After how much of a run something changes: a number of steps, or, written with a point, a share of them."""

    number: float
    share: bool

    def steps_before(self, steps: int, earlier: int | None = None) -> int:
        """How many steps of a run of `steps` come before the change, at most all; 0 or less if it is there from the start.

        `earlier`, the steps of a first pass, is given for the second pass of a run in two: there the number counts on from the first,
        and a share from 1 to 2 is one of the second pass. Source of both rules: the web UI's `prompt_parser.py`.
        """
        number = self.number - (0.0 if earlier is None else 1.0 if self.share else earlier)
        counted = number * steps if self.share else number
        return steps if counted >= steps else math.trunc(max(counted, -1.0))


@dataclass(frozen=True, slots=True)
class Change:
    """`[before:after:when]`: one text for the first steps, another for the rest. Either may be empty."""

    before: "Pieces"
    after: "Pieces"
    when: When


@dataclass(frozen=True, slots=True)
class Alternation:
    """`[one|another|…]`: the first choice at the first step, the next at the next, and so on in turns."""

    choices: "tuple[Pieces, ...]"


Piece: TypeAlias = str | Change | Alternation
Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One of the texts that AND stands between, and how much of it there is."""

    pieces: Pieces
    weight: float = 1.0

    def text_at(self, step: int, steps: int, earlier: int | None = None) -> str:
        """The text, with its emphasis still marked, while step `step` (1 to `steps`) is made. `earlier` as in `When`."""
        return _text_at(self.pieces, step, steps, earlier)

    def schedule(self, steps: int, earlier: int | None = None) -> list[tuple[int, str]]:
        """The texts of a run in their order, each with the last step that it is for.

        Equal texts follow each other where the text alternates: each of the steps is listed then.
        """
        ends = {steps}
        if _collect_ends(self.pieces, ends, steps, earlier):
            ends.update(range(1, steps))
        known: dict[str, str] = {}
        texts = ((end, self.text_at(end, steps, earlier)) for end in sorted(ends))
        return [(end, known.setdefault(text, text)) for end, text in texts]

    @property
    def changes(self) -> bool:
        """Whether the text changes during a run."""
        return not all(isinstance(piece, str) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class NetworkCall:
    """`<kind:name:text:unet>`: something to be added to the model, and how much of it the text encoder and the U-Net get.

    others   what else was said of it, as written: `<lora:name:1:dyn=8>`
    """

    kind: str
    name: str
    text_weight: float = 1.0
    unet_weight: float = 1.0
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt that was read.

    source     the text as it was given
    parts      at least one
    networks   what it asks to be added to the model
    notes      what of it was taken in a way that may surprise, in words
    """

    source: str
    parts: tuple[Part, ...]
    networks: tuple[NetworkCall, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part."""
        return tuple(part.weight for part in self.parts)

    def schedule(self, steps: int, earlier: int | None = None) -> list[tuple[int, tuple[str, ...]]]:
        """The texts of all parts during a run, each set with the last step that it is for; neighbours differ."""
        each: list[dict[int, str]] = [dict(part.schedule(steps, earlier)) for part in self.parts]
        found: list[tuple[int, tuple[str, ...]]] = []
        current = [""] * len(each)
        # From the last step backwards: a text that ends later is still there.
        for end in sorted({end for texts in each for end in texts}, reverse=True):
            current = [texts.get(end, now) for texts, now in zip(each, current, strict=True)]
            if not found or found[-1][1] != tuple(current):
                found.append((end, tuple(current)))
        return found[::-1]


def plain_prompt(text: str) -> Prompt:
    """A text without grammar."""
    return Prompt(source=text, parts=(Part((text,)),))


def merged(pieces: Sequence[Piece]) -> Pieces:
    """The same pieces with neighbouring texts joined, and without empty ones."""
    if len(pieces) == 1:
        return (pieces[0],) if pieces[0] else ()
    found: list[Piece] = []
    start = 0
    for place, piece in enumerate(pieces):
        if not isinstance(piece, str):
            if text := "".join(cast("Sequence[str]", pieces[start:place])):
                found.append(text)
            found.append(piece)
            start = place + 1
    if text := "".join(cast("Sequence[str]", pieces[start:])):
        found.append(text)
    return tuple(found)


def _text_at(pieces: Pieces, step: int, steps: int, earlier: int | None) -> str:
    texts: list[str] = []
    for piece in pieces:
        match piece:
            case str():
                texts.append(piece)
            case Change(before, after, when):
                chosen = before if step <= when.steps_before(steps, earlier) else after
                texts.append(_text_at(chosen, step, steps, earlier))
            case Alternation(choices):
                texts.append(_text_at(choices[(step - 1) % len(choices)], step, steps, earlier))
    return "".join(texts)


def _collect_ends(pieces: Pieces, found: set[int], steps: int, earlier: int | None) -> bool:
    """Add the steps after which something may be another; whether it may be after every one, because something alternates."""
    alternates = False
    for piece in pieces:
        match piece:
            case str():
                pass
            case Change(before, after, when):
                if (end := when.steps_before(steps, earlier)) >= 1:
                    found.add(end)
                alternates |= _collect_ends(before, found, steps, earlier)
                alternates |= _collect_ends(after, found, steps, earlier)
            case Alternation():
                alternates = True
    return alternates
