"""What changes during a run: `[before:after:when]` and `[one|another]`, found in a text in one pass.

The grammar is the web UI's (its `prompt_parser.py`), which says of brackets:
- inside a pair all brackets must be in pairs; one that has no partner takes every bracket around it out of the grammar;
- a round pair holds at most one colon of its own;
- a square pair holds no colon and no bar (less of something: emphasis, kept as text), or bars alone (alternation), or one or two
  colons, a number behind the last (change).
What is outside the grammar is text. There the web UI takes the whole prompt for text when a bar lies outside an alternation; here the bar alone is.
"""

import re
from itertools import pairwise

from sfumato.text.prompts.tree import Alternation, Change, Piece, Pieces, When, merged

DEEPEST = 100
"""Inside more open brackets than this nothing changes: a tree must not be deeper than what walks it can go."""

_MARKS = frozenset("[]():|")
_TEXT = r"[^\\\[\]():|]"
_FLOAT = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_NUMBER = re.compile(rf"\s*({_FLOAT})\s*")
# In this order: text with escapes, and with pairs around text alone that mean nothing here; a pair of square brackets around text alone, and
# around what is a change or an alternation, as most are; three colons or more with the text between, which no pair can hold; a mark; a backslash by
# itself.
_TOKENS = re.compile(
    rf"(?:{_TEXT}++|\({_TEXT}*+(?::{_TEXT}*+)?\)|(?:\\.)++)(?:{_TEXT}++|\({_TEXT}*+(?::{_TEXT}*+)?\)|\[{_TEXT}*+\]|(?:\\.)++)*+"
    rf"|\[{_TEXT}*+(?:(?:\|{_TEXT}*+)*+|(?::{_TEXT}*+)?:\s*{_FLOAT}\s*)\]"
    rf"|(?::{_TEXT}*+){{3,}}+"
    r"|[\[\]():|]|\\",
    re.DOTALL,
)


def parse_pieces(text: str) -> Pieces:
    """The texts, changes and alternations that a text is made of; any text is made of some. In linear time."""
    if "[" not in text or "]" not in text or (":" not in text and "|" not in text):
        return (text,) if text else ()
    pieces: list[Piece] = []
    # The brackets that wait for their partners, by their places among the pieces; the colons and bars inside any of them, likewise;
    # and how many of those lie before each bracket. A pair's own are then those behind that number.
    waiting: list[int] = []
    marks: list[int] = []
    before: list[int] = []
    known: dict[str, Change | Alternation | None] = {}  # pairs around text alone: equal ones are read once
    for token in _TOKENS.findall(text):
        if token not in _MARKS:
            if token[0] == ":":
                if waiting:
                    marks += [len(pieces)] * 3  # more say nothing else
            elif token[0] == "[":
                if (node := known.get(token)) is None and token not in known:
                    node = known[token] = _simple(token)
                if node is not None and len(waiting) < DEEPEST:
                    pieces.append(node)
                    continue
                if node is not None:
                    waiting, marks, before = [], [], []
        elif token == "[" or token == "(":
            waiting.append(len(pieces))
            before.append(len(marks))
        elif not waiting:
            pass
        elif token == ":" or token == "|":
            marks.append(len(pieces))
        else:
            place, first = waiting.pop(), before.pop()
            own = marks[first:]
            del marks[first:]
            sound = pieces[place] == ("[" if token == "]" else "(")
            if sound and own:
                node = _node(place, own, pieces) if token == "]" and len(waiting) < DEEPEST else None
                if node is not None:
                    pieces[place:] = (node,)
                    continue
                sound = token == ")" and len(_colons(own, pieces)) <= 1
            if not sound:
                waiting, marks, before = [], [], []
        pieces.append(token)
    return merged(pieces)


def _simple(token: str) -> Change | Alternation | None:
    """What a pair of square brackets around text and marks says; None if it changes nothing."""
    if ":" not in token:
        choices = token[1:-1].split("|")
        return Alternation(tuple([(choice,) if choice else () for choice in choices])) if len(choices) > 1 else None
    *texts, number = token[1:-1].split(":")
    before, after = texts if len(texts) > 1 else ("", texts[0])
    return Change((before,) if before else (), (after,) if after else (), _when(number))


def _when(number: str) -> When:
    return When(float(number), "." in number)


def _colons(marks: list[int], pieces: list[Piece]) -> list[int]:
    """Those of the marks that are colons; one place stands for three where they are one piece."""
    return [mark for mark in marks if (piece := pieces[mark]) != "|" and isinstance(piece, str)]


def _node(place: int, marks: list[int], pieces: list[Piece]) -> Change | Alternation | None:
    """What a pair of square brackets says, from `place` to the end of the pieces, parted by `marks`; None if it changes nothing."""
    colons = _colons(marks, pieces)
    if not colons:
        edges = [place, *marks, len(pieces)]
        return Alternation(tuple([merged(pieces[start + 1 : end]) for start, end in pairwise(edges)]))
    number = pieces[-1]
    if len(colons) > 2 or len(pieces) != colons[-1] + 2 or not isinstance(number, str):
        return None
    match = _NUMBER.fullmatch(number)
    if match is None:
        return None
    before, between = ((), place) if len(colons) == 1 else (merged(pieces[place + 1 : colons[0]]), colons[0])
    return Change(before, merged(pieces[between + 1 : colons[-1]]), _when(match[1]))
