"""Emphasis in the words of compel, which InvokeAI and diffusers' documents speak: `word+`, `word--`, `(some words)1.3`, `(some words)++`.

Each plus is 1.1, each minus 0.9; around one another they multiply. A backslash takes the meaning from a bracket, a quote, a plus or a
minus. `"some words"` in quotes stands for a pair of brackets where a weight follows. Its `.swap()`, `.blend()` and `.and()` are not read: they are text.
Source: compel's documents and `prompt_parser.py`.
"""

import re
from collections.abc import Iterator

from sfumato.text.prompts.emphasis import HEAVIEST, Span, Spans

PLUS, MINUS = 1.1, 0.9

# Words without signs are taken together, up to the last space; one that a sign follows, by itself. Before them, a pair around such words
# alone; escapes are taken in a row.
_TOKENS = re.compile(r'[^\\()"+\-]+(?<=\s)|\([^\\()"+\-]*+\)|(?:\\.)++|[()"]|[^\\()"\s]+|\s+|\\', re.DOTALL)
_PAIR = re.compile(r"\((.*(?<=\s))?(.*)\)", re.DOTALL)
# What may follow a bracket without a space.
_AFTER = re.compile(r"\++|-+(?![0-9.])|-?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)")
# A word with its signs: they end it, or stand before punctuation.
_WORD = re.compile(r"(.*?[^+\-,.;:!?=])(\++|-+)([,.;:!?=]*)", re.DOTALL)
_STARTS = frozenset("+-.0123456789")
_ESCAPABLE = frozenset('()"+-.,=')


def compel_spans(text: str) -> Spans:
    """The spans of a text, one for each stretch of one weight. In linear time."""
    tokens: list[str] = [
        *_TOKENS.findall(text),
        " ",
    ]  # the last is nothing of the text: it follows what nothing follows
    after, closing, opening = _pairs(tokens)
    weighed: list[tuple[str, float]] = []
    weights = [1.0]
    known: dict[
        tuple[str, float], list[tuple[str, float]]
    ] = {}  # words with signs, and pairs around words alone: equal ones are read once
    for place, token in enumerate(tokens[:-1]):
        if token[0] == "(" and len(token) > 1:
            key = token, _held(weights[-1] * after[place][0]) if place in after else weights[-1]
            if (pair := known.get(key)) is None:
                pair = known[key] = _pair(*key)
            weighed += pair
        elif place in opening:
            factor = after[opening[place]][0] if opening[place] in after else 1.0
            weights.append(_held(weights[-1] * factor))
            weighed.append((" ", weights[-1]))  # brackets part words
        elif place in closing:
            weighed.append((" ", weights.pop()))
        else:
            rest = token[after[place - 1][1] :] if place - 1 in after else token
            if token[0] == "\\":
                weighed.append((_unescaped(rest), weights[-1]))
            elif "+" in rest or "-" in rest:
                key = rest, weights[-1]
                if (pair := known.get(key)) is None:
                    pair = known[key] = list(_word(*key))
                weighed += pair
            else:
                weighed.append((rest, weights[-1]))
    return tuple(_joined(weighed))


def _pair(token: str, weight: float) -> list[tuple[str, float]]:
    """A pair around words without signs, with its weight; the words up to the last space by themselves, as the tokens have them."""
    match = _PAIR.fullmatch(token)
    assert match is not None, "anything in brackets is one"
    return [(text, weight) for text in (" ", match[1] or "", f"{match[2]} ") if text]


def _unescaped(text: str) -> str:
    """Escapes in a row without the backslashes before what they take the meaning from."""
    for mark in _ESCAPABLE:
        text = text.replace(f"\\{mark}", mark)
    return text


def _pairs(tokens: list[str]) -> tuple[dict[int, tuple[float, int]], set[int], dict[int, int]]:
    """Weights behind closed pairs, each with how many letters of the next token they are; the closing places; and the partners of opening ones."""
    after: dict[int, tuple[float, int]] = {}
    closing: set[int] = set()
    opening: dict[int, int] = {}
    brackets: list[int] = []
    quote: int | None = None
    known: dict[str, tuple[float, int] | None] = {}  # equal ones are read once

    def read(token: str) -> tuple[float, int] | None:
        if token[0] not in _STARTS:
            return None
        if token not in known:
            written = _AFTER.match(token)
            known[token] = None if written is None else (_factor(written[0]), written.end())
        return known[token]

    for place, token in enumerate(tokens[:-1]):
        if token == "(":
            brackets.append(place)
            continue
        if token[0] == "(":
            if (following := read(tokens[place + 1])) is not None:
                after[place] = following
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
        following = read(tokens[place + 1])
        if token == '"' and following is None:
            continue  # quotes without a weight are quotes
        opening[first] = place
        closing.add(place)
        if following is not None:
            after[place] = following
    return after, closing, opening


def _word(text: str, weight: float) -> Iterator[tuple[str, float]]:
    """The text of a token with its weight, and that of the punctuation behind its signs."""
    match = _WORD.fullmatch(text)
    if match is None:
        yield text, weight
        return
    yield match[1], _held(weight * _factor(match[2]))
    yield match[3], weight


def _factor(written: str) -> float:
    if written[0] == "+":
        return min(PLUS ** min(len(written), 1000), HEAVIEST)
    if written == "-" * len(written):
        return MINUS ** min(len(written), 100_000)
    return _held(float(written))


def _held(weight: float) -> float:
    return weight if -HEAVIEST < weight < HEAVIEST else min(max(weight, -HEAVIEST), HEAVIEST)


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
