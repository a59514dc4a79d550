"""Emphasis in the words of compel, which InvokeAI and diffusers' documents speak: `word+`, `word--`, `(some words)1.3`, `(some words)++`.

Each plus is 1.1, each minus 0.9; around one another they multiply. A backslash takes the meaning from a bracket, a quote, a plus or a
minus. `"some words"` in quotes stands for a pair of brackets where a weight follows. Its `.swap()`, `.blend()` and `.and()` are not read: they are text.
Source: compel's documents and `prompt_parser.py`.
"""

import re
from collections.abc import Iterator

from sfumato.text.prompts.emphasis import HEAVIEST, Span, Spans

PLUS, MINUS = 1.1, 0.9

# Words without signs are taken together, up to the last space; one that a sign follows, by itself.
_TOKENS = re.compile(r'[^\\()"+\-]+(?<=\s)|\\.|[()"]|[^\\()"\s]+|\s+|\\', re.DOTALL)
# What may follow a bracket without a space.
_AFTER = re.compile(r"\++|-+(?![0-9.])|-?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)")
# A word with its signs: they end it, or stand before punctuation.
_WORD = re.compile(r"(.*?[^+\-,.;:!?=])(\++|-+)([,.;:!?=]*)", re.DOTALL)
_ESCAPABLE = frozenset('()"+-.,=')


def compel_spans(text: str) -> Spans:
    """The spans of a text, one for each stretch of one weight. In linear time."""
    tokens: list[str] = _TOKENS.findall(text)
    after, closing, opening = _pairs(tokens)
    weighed: list[tuple[str, float]] = []
    weights = [1.0]
    for place, token in enumerate(tokens):
        if place in opening:
            factor = after[opening[place]][0] if opening[place] in after else 1.0
            weights.append(min(max(weights[-1] * factor, -HEAVIEST), HEAVIEST))
            weighed.append((" ", weights[-1]))  # brackets part words
        elif place in closing:
            weighed.append((" ", weights.pop()))
        else:
            rest = token[after[place - 1][1] :] if place - 1 in after else token
            weighed += _word(rest, weights[-1], escaped=token[0] == "\\")
    return tuple(_joined(weighed))


def _pairs(tokens: list[str]) -> tuple[dict[int, tuple[float, int]], set[int], dict[int, int]]:
    """Weights behind closed pairs, each with how many letters of the next token they are; the closing places; and the partners of opening ones."""
    after: dict[int, tuple[float, int]] = {}
    closing: set[int] = set()
    opening: dict[int, int] = {}
    brackets: list[int] = []
    quote: int | None = None
    for place, token in enumerate(tokens):
        if token == "(":
            brackets.append(place)
            continue
        if token == ")" and brackets:
            first = brackets.pop()
            if quote is not None and quote > first:
                quote = None
        elif token == '"' and quote is not None and (not brackets or brackets[-1] < quote):
            first, quote = quote, None
        else:
            if token == '"' and quote is None:
                quote = place
            continue
        following = _AFTER.match(tokens[place + 1]) if place + 1 < len(tokens) else None
        if token == '"' and following is None:
            continue  # quotes without a weight are quotes
        opening[first] = place
        closing.add(place)
        if following is not None:
            after[place] = _factor(following[0]), following.end()
    return after, closing, opening


def _word(text: str, weight: float, *, escaped: bool) -> Iterator[tuple[str, float]]:
    """The text of a token with its weight, and that of the punctuation behind its signs."""
    if escaped and len(text) > 1:
        yield (text[1:] if text[1] in _ESCAPABLE else text), weight
        return
    match = _WORD.fullmatch(text) if "+" in text or "-" in text else None
    if match is None:
        yield text, weight
        return
    yield match[1], min(max(weight * _factor(match[2]), -HEAVIEST), HEAVIEST)
    yield match[3], weight


def _factor(written: str) -> float:
    if written[0] == "+":
        return min(PLUS ** min(len(written), 1000), HEAVIEST)
    if written == "-" * len(written):
        return MINUS ** min(len(written), 100_000)
    return min(max(float(written), -HEAVIEST), HEAVIEST)


def _joined(weighed: list[tuple[str, float]]) -> Iterator[Span]:
    """Spans of neighbours of one weight. A space belongs to whatever it follows: it only parts words."""
    texts: list[str] = []
    current = 1.0
    for text, weight in weighed:
        if weight != current and text and not text.isspace():
            if not (whole := "".join(texts)).isspace() and whole:
                yield Span(whole, current)
            texts, current = [], weight
        texts.append(text)
    if whole := "".join(texts):
        yield Span(whole, current)
