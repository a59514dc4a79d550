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

_TOKENS = re.compile(r"[^\\()\[\]]+|[()\[\]]|\\[\\()\[\]]?")
_WEIGHT = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*")
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
    # What a round bracket multiplies by is known when it is closed. Until then a text notes which is the innermost open one, and a
    # bracket which is around it; the first stands for none. Square brackets are known at once: how many are open is enough.
    factors, around = [1.0], [0]
    innermost = squares = 0
    seen: list[tuple[str, int, int]] = []
    previous = "("
    for token in _TOKENS.findall(text):
        if token == "(":
            around.append(innermost)
            innermost = len(factors)
            factors.append(MORE)
        elif token == "[":
            squares += 1
        elif token == "]" and squares:
            squares -= 1
        elif token == ")" and innermost:
            colon = previous.rfind(":") if previous[0] not in _SPECIAL else -1
            number = _WEIGHT.fullmatch(previous, colon + 1) if colon >= 0 else None
            if number is not None:
                factors[innermost] = float(number[1])
                seen[-1] = previous[:colon], innermost, squares
            innermost = around[innermost]
        else:
            seen.append((token[1:] if token[0] == "\\" else token, innermost, squares))
        previous = token

    products = [1.0]
    for outer, factor in zip(around[1:], factors[1:], strict=True):
        product = products[outer] * factor
        products.append(product if -HEAVIEST < product < HEAVIEST else _held(product))
    return joined(
        [
            (text, _held(products[round_] * LESS**square) if square else products[round_])
            for text, round_, square in seen
        ]
    )


def joined(weighed: Iterable[tuple[str, float]]) -> Spans:
    """Spans of texts with their weights: neighbours of one weight joined, BREAK taken out of them, empty ones left out."""
    spans: list[Span | Literal[_End.BREAK]] = []
    texts: list[str] = []
    current = 1.0

    def end() -> None:
        if whole := "".join(texts):
            spans.append(Span(whole, current))
        texts.clear()

    for text, weight in weighed:
        if not text:
            continue
        if weight != current:
            end()
            current = weight
        if "BREAK" not in text:
            texts.append(text)
            continue
        first, *rest = _BREAK.split(text)
        texts.append(first.rstrip() if rest else first)
        for place, part in enumerate(rest, start=1):
            end()
            spans.append(BREAK)
            # The spaces around a BREAK belong to it.
            texts.append(part.lstrip() if place == len(rest) else part.strip())
    end()
    return tuple(spans)


def _held(weight: float) -> float:
    """The weight within what a context can bear."""
    return weight if -HEAVIEST < weight < HEAVIEST else HEAVIEST if weight > 0 else -HEAVIEST
