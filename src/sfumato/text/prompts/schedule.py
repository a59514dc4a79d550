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

_TOKENS = re.compile(r"[^\\\[\]():|]+|[\[\]():|]|\\.|\\", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


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
    for token in _TOKENS.findall(text):
        if token == "[" or token == "(":
            waiting.append(len(pieces))
            before.append(len(marks))
        elif not waiting:
            pass
        elif token == ":" or token == "|":
            marks.append(len(pieces))
        elif token == "]" or token == ")":
            place, first = waiting.pop(), before.pop()
            own = marks[first:]
            del marks[first:]
            sound = pieces[place] == ("[" if token == "]" else "(")
            if sound and own:
                node = _node(place, own, pieces) if token == "]" and len(waiting) < DEEPEST else None
                if node is not None:
                    pieces[place:] = (node,)
                    continue
                sound = token == ")" and [pieces[mark] for mark in own].count(":") <= 1
            if not sound:
                waiting.clear()
                marks.clear()
                before.clear()
        pieces.append(token)
    return merged(pieces)


def _node(place: int, marks: list[int], pieces: list[Piece]) -> Change | Alternation | None:
    """What a pair of square brackets says, from `place` to the end of the pieces, parted by `marks`; None if it changes nothing."""
    colons = [mark for mark in marks if pieces[mark] == ":"]
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
    return Change(before, merged(pieces[between + 1 : colons[-1]]), When(float(match[1]), "." in match[1]))
