"""Emphasis in ComfyUI's words: `(x)` and `(x:1.3)`, and nothing else.

A weight that is written holds as it is, whatever is around it; a pair without one multiplies what is around it by 1.1. Only `\\(` and `\\)`
are escapes. A closing bracket that closes nothing is text and makes the next opening one text; what is never closed is text to the end.
`embedding:name` calls an embedding. Source: ComfyUI's `sd1_clip.py`.
"""

import math
import re

from sfumato.text.prompts.emphasis import HEAVIEST, MORE, Span, Spans

EMBEDDING = "embedding:"

# In this order: text, backslashes that take no meaning from anything among it; a pair around text alone, which most pairs are; a bracket;
# escapes in a row.
_TOKENS = re.compile(r"(?:[^\\()]|\\(?![()]))[^\\()]*+(?:\\(?![()])[^\\()]*+)*+|\([^\\()]*+\)|[()]|(?:\\[()])++")


def comfy_spans(text: str) -> Spans:
    """The spans of a text, one for each stretch between brackets, as ComfyUI tokenizes it. In linear time."""
    tokens: list[str] = _TOKENS.findall(text)
    partners, stop = _partners(tokens)
    spans: list[Span] = []
    known: dict[tuple[str, float], Span] = {}  # equal spans are one
    pairs: dict[str, tuple[str, float | None]] = {}
    texts: list[str] = []
    weights = [1.0]
    # Where a weight is written, by the place of the text that it ends: how much of that text is left.
    cut: dict[int, int] = {}

    def add(whole: str, weight: float) -> None:
        key = whole, weight
        if (span := known.get(key)) is None:
            span = known[key] = Span(whole, weight)
        spans.append(span)

    for place, token in enumerate(tokens):
        partner = partners.get(place) if place < stop else None
        if partner is None:
            texts.append(token[1::2] if token[0] == "\\" and token[1:2] in ("(", ")") else token[: cut.get(place)])
            continue
        if texts:
            if whole := "".join(texts):
                add(whole, weights[-1])
            texts.clear()
        if partner == place:
            if (read := pairs.get(token)) is None:
                read = pairs[token] = _pair(token[1:-1])
            if read[0]:
                add(read[0], _held(weights[-1] * MORE if read[1] is None else read[1]))
        elif token == "(":
            weight = weights[-1] * MORE
            last = tokens[partner - 1]  # where the weight is written, if it is
            colon = last.rfind(":") if last[0] != "(" else -1
            # A colon right after the bracket is text.
            number = _number(last[colon + 1 :]) if colon > 0 or (colon == 0 and partner - 2 != place) else None
            if number is not None:
                weight, cut[partner - 1] = number, colon
            weights.append(_held(weight))
        else:
            weights.pop()
    if texts and (whole := "".join(texts)):
        add(whole, weights[-1])
    return tuple(spans)


def _partners(tokens: list[str]) -> tuple[dict[int, int], int]:
    """The place of each bracket's partner, both ways, and from where on all is text; a pair in one token is its own partner."""
    partners: dict[int, int] = {}
    opened: list[int] = []
    owed = 0
    for place, token in enumerate(tokens):
        if token == "(":
            if not opened and owed:
                owed -= 1
            else:
                opened.append(place)
        elif token == ")":
            if not opened:
                owed += 1
            else:
                first = opened.pop()
                partners[first], partners[place] = place, first
        elif token[0] == "(" and (opened or not owed):
            partners[place] = place
    return partners, opened[0] if opened else len(tokens)


def _pair(text: str) -> tuple[str, float | None]:
    """What is in a pair, without the weight written in it, and that weight."""
    colon = text.rfind(":")
    number = _number(text[colon + 1 :]) if colon > 0 else None
    return (text, None) if number is None else (text[:colon], number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _held(weight: float) -> float:
    return min(max(weight, -HEAVIEST), HEAVIEST)
