"""Emphasis in AUTOMATIC1111's words: a text becomes spans, each with the weight of its tokens.

`(x)` is x times 1.1, `(x:1.3)` x times 1.3, `[x]` x divided by 1.1; around one another they multiply. A backslash takes the meaning from
a bracket or a backslash after it. What is not closed lasts to the end; what closes nothing is text. BREAK, by itself, ends a window.
Source: the web UI's `prompt_parser.py` and its doc tests. There a BREAK inside brackets is text of weight -1.1; here it is a BREAK.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

MORE: Final = 1.1
LESS: Final = 1 / 1.1
HEAVIEST: Final = 1000.0
"""Weights are held within this, up and down: beyond it a context overflows, and no picture is left."""
NO_MORE: Final = 8000
"""Square brackets around a word that leave nothing of it: a number can't tell 1.1 to minus this from 0."""

# In this order: text, with what backslashes in it take no meaning from; a pair around text alone, which most pairs are; a bracket; escapes in a
# row; a backslash by itself.
_TOKENS = re.compile(
    r"[^\\()\[\]]++(?:\\(?![\\()\[\]])[^\\()\[\]]*+)*+"
    r"|\([^\\()\[\]]*+\)|\[[^\\()\[\]]*+\]"
    r"|[()\[\]]|(?:\\[\\()\[\]])++|\\"
)
_WEIGHT = re.compile(r"\s*([+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++))\s*")
_SPECIAL = frozenset("\\()[]")
_BREAK = re.compile(r"\bBREAK\b")


class _End(Enum):
    BREAK = "BREAK"


BREAK: Final = _End.BREAK
"""The end of a window, in a row of spans."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text whose tokens have one weight."""

    text: str
    weight: float = 1.0


Spans: TypeAlias = tuple[Span | Literal[_End.BREAK], ...]


def a1111_spans(text: str) -> Spans:
    """The spans of a text; neighbours of one weight are one span, so that brackets around a whole word don't split it. In linear time."""
    # What a round bracket multiplies by is known when it is closed. Until then a text notes where it stands: which is the innermost open
    # one, and how many square ones are open. A bracket notes which is around it; the first stands for none.
    factors, around = [1.0], [0]
    innermost = square = 0
    places: list[int] = []
    squares: list[int] = []
    texts: list[str] = []
    where: list[int] = []
    here = -1  # the place in `places`, once something stands there
    pairs: dict[str, tuple[str, int]] = {}  # pairs around text alone that stand here: equal ones are read once
    previous = "("
    for token in _TOKENS.findall(text):
        first = token[0]
        if token == "(" or token == "[" or (token == ")" and innermost) or (token == "]" and square):
            if token == "(":
                around.append(innermost)
                innermost = len(factors)
                factors.append(MORE)
            elif token == "[":
                square += 1
            elif token == "]":
                square -= 1
            else:
                weighed = _weighed(previous) if previous[0] not in _SPECIAL else None
                if weighed is not None:
                    texts[-1] = weighed[0].replace("\\", "")
                    factors[innermost] = weighed[1]
                innermost = around[innermost]
            here, previous = -1, token
            continue
        if here < 0:
            here = len(places)
            if pairs:
                pairs = {}
            places.append(innermost)
            squares.append(square)
        if first not in _SPECIAL or len(token) == 1:  # a bracket that closes nothing is text
            if "\\" in token and "BREAK" in token:  # a backslash parts it from what is before
                *parts, token = token.split("\\")
                texts += parts
                where += [here] * len(parts)
            texts.append(token.replace("\\", ""))
            where.append(here)
        elif first == "\\":
            texts.append(token[1::2])
            where.append(here)
        else:
            pair = pairs.get(token)
            if pair is None:
                inside, factor = token[1:-1], MORE
                if first == "(":
                    inside, factor = _weighed(inside) or (inside, MORE)
                    around.append(innermost)
                    places.append(len(factors))
                    factors.append(factor)
                    squares.append(square)
                else:
                    places.append(innermost)
                    squares.append(square + 1)
                pair = pairs[token] = inside, len(places) - 1
            texts.append(pair[0])
            where.append(pair[1])
        previous = token or "\\"

    products = [1.0]
    for outer, factor in zip(around[1:], factors[1:], strict=True):
        product = products[outer] * factor
        products.append(product if -HEAVIEST < product < HEAVIEST else _held(product))
    powers = [LESS**square for square in range(min(max(squares, default=0), NO_MORE) + 1)]
    weights = [
        weight if -HEAVIEST < (weight := products[place] * powers[min(square, NO_MORE)]) < HEAVIEST else _held(weight)
        for place, square in zip(places, squares, strict=True)
    ]
    return joined(zip(texts, [weights[place] for place in where], strict=True))


def _weighed(text: str) -> tuple[str, float] | None:
    """The text before its last colon, and the number behind it; None if there is none."""
    colon = text.rfind(":")
    number = _WEIGHT.fullmatch(text, colon + 1) if colon >= 0 else None
    return None if number is None else (text[:colon], float(number[1]))


def joined(weighed: Iterable[tuple[str, float]]) -> Spans:
    """Spans of texts with their weights: neighbours of one weight joined, BREAK taken out of them, empty ones left out."""
    spans: list[Span | Literal[_End.BREAK]] = []
    known: dict[tuple[str, float], Span] = {}  # equal spans are one
    texts: list[str] = []
    current = 1.0

    def end() -> None:
        whole = texts[0] if len(texts) == 1 else "".join(texts)
        key = whole, current
        if (span := known.get(key)) is None:
            span = known[key] = Span(whole, current)
        spans.append(span)
        texts.clear()

    for text, weight in weighed:
        if not text:
            continue
        if weight != current:
            if texts:
                end()
            current = weight
        if "BREAK" not in text:
            texts.append(text)
            continue
        first, *rest = _BREAK.split(text)
        if left := first.rstrip() if rest else first:
            texts.append(left)
        for place, part in enumerate(rest, start=1):
            if texts:
                end()
            spans.append(BREAK)
            # The spaces around a BREAK belong to it.
            if left := part.lstrip() if place == len(rest) else part.strip():
                texts.append(left)
    if texts:
        end()
    return tuple(spans)


def _held(weight: float) -> float:
    """The weight within what a context can bear."""
    return weight if -HEAVIEST < weight < HEAVIEST else HEAVIEST if weight > 0 else -HEAVIEST
