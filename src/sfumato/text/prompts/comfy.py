"""Emphasis in ComfyUI's words: `(x)` and `(x:1.3)`, and nothing else.

A weight that is written holds as it is, whatever is around it; a pair without one multiplies what is around it by 1.1. Only `\\(` and `\\)`
are escapes. A closing bracket that closes nothing is text and makes the next opening one text; what is never closed is text to the end.
`embedding:name` calls an embedding. Source: ComfyUI's `sd1_clip.py`.
"""

import math
import re

from sfumato.text.prompts.emphasis import HEAVIEST, MORE, Span, Spans

EMBEDDING = "embedding:"

_TOKENS = re.compile(r"[^\\()]+|[()]|\\[()]?")


def comfy_spans(text: str) -> Spans:
    """The spans of a text, one for each stretch between brackets, as ComfyUI tokenizes it. In linear time."""
    tokens: list[str] = _TOKENS.findall(text)
    partners, stop = _partners(tokens)
    spans: list[Span] = []
    texts: list[str] = []
    weights = [1.0]
    # Where a weight is written, by the place of the text that it ends: how much of that text is left.
    cut: dict[int, int] = {}

    def end() -> None:
        if whole := "".join(texts):
            spans.append(Span(whole, weights[-1]))
        texts.clear()

    for place, token in enumerate(tokens):
        partner = partners.get(place) if place < stop else None
        if partner is None:
            written = token[: cut[place]] if place in cut else token
            texts.append(written[1:] if written in ("\\(", "\\)") else written)
        elif token == "(":
            end()
            weight = weights[-1] * MORE
            last = tokens[partner - 1]  # where the weight is written, if it is
            colon = last.rfind(":")
            # A colon right after the bracket is text.
            number = _number(last[colon + 1 :]) if colon > 0 or (colon == 0 and partner - 2 != place) else None
            if number is not None:
                weight, cut[partner - 1] = number, colon
            weights.append(min(max(weight, -HEAVIEST), HEAVIEST))
        else:
            end()
            weights.pop()
    end()
    return tuple(spans)


def _partners(tokens: list[str]) -> tuple[dict[int, int], int]:
    """The place of each bracket's partner, both ways, and from where on all is text."""
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
    return partners, opened[0] if opened else len(tokens)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
