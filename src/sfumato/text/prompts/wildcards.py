"""Prompts that are many: `{red|green}` is one of the two, `__colour__` a line of a list, drawn from a seed.

    {a|b}  {0.5::a|2::b}      one of them; a weight says how often against the others, 1 unless given
    {2$$a|b|c}  {1-2$$ and $$a|b|c}    two of them, none twice; one or two of them, joined by " and " instead of ", "
    __animals__  __sea/*__    a line of the list of that name, or of any list whose name matches
    \\{  \\}  \\_               as they are

A choice may hold others, and so may a line. What names no list, has no bar or is never closed is text. The words are those of Dynamic Prompts,
an extension of AUTOMATIC1111's web UI.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from random import Random

from sfumato.errors import MissingFileError

DEEPEST = 50
"""Choices in choices, and lines that name lists: beyond so many, one in another, they are left as text. A line may name its own list."""
LONGEST = 1_000_000
"""Letters that wildcards may grow a prompt to; once it is that long, no more lists are read."""

# A choice among text alone, as most are, is one token; inside too many others it is read as its parts.
_TOKENS = re.compile(r"[^\\{}|_]+|\{[^\\{}|_]*+(?:\|[^\\{}|_]*+)++\}|\\.|__[\w\-/*?. ]+?__|.", re.DOTALL)
_PARTS = re.compile(r"[^{}|]+|.", re.DOTALL)
_COUNT = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?\$\$(?:((?:(?!\$\$)[^{}|])*)\$\$)?")
_WEIGHT = re.compile(r"\s*(\d++(?:\.\d*+)?+|\.\d++)::")

Lists = Mapping[str, Sequence[str]]
"""Lines by the name of their list: that of its file, without .txt, with the folders it is in: "sea/fish"."""


def expand_wildcards(text: str, seed: int, lists: Lists | None = None) -> str:
    """The prompt that a seed draws from a text; a text without wildcards is itself."""
    if "{" not in text and "__" not in text:
        return text
    return _Drawing(Random(seed), lists or {}).expand(text, 0)


def read_lists(folder: Path) -> dict[str, list[str]]:
    """The lists in a folder of `.txt` files, one line a choice; empty lines and those that begin with # are none. Raises MissingFileError."""
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder {folder} with lists for wildcards; name a folder of .txt files")
    lists: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.txt")):
        lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
        lists[path.relative_to(folder).with_suffix("").as_posix()] = [
            line for line in lines if line and not line.startswith("#")
        ]
    return lists


@dataclass(slots=True)
class _Choice:
    """A brace that waits for its partner: where it stands in what was written, and its bars."""

    place: int
    bars: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class _Drawing:
    random: Random
    lists: Lists
    grown: int = 0
    found: dict[str, list[tuple[str, bool]]] = field(default_factory=dict[str, list[tuple[str, bool]]])
    """The lines that a name in the text stands for, and whether there is anything to draw in each."""

    def expand(self, text: str, depth: int) -> str:
        written: list[str] = []
        waiting: list[_Choice] = []
        for token in self._tokens(text, waiting):
            if token[0] == "_" and len(token) > 4:
                token = self._line(token, depth)
            elif token[0] == "{" and len(token) > 1:
                token = self._chosen(token[1:-1].split("|"))
            elif token == "{" and len(waiting) < DEEPEST:
                waiting.append(_Choice(len(written)))
            elif token == "|" and waiting:
                waiting[-1].bars.append(len(written))
            elif token == "}" and waiting:
                choice = waiting.pop()
                if choice.bars:
                    edges = [choice.place, *choice.bars, len(written)]
                    written[choice.place :] = [
                        self._chosen(["".join(written[start + 1 : end]) for start, end in pairwise(edges)])
                    ]
                    continue
            elif token[0] == "\\" and token[1:] in ("{", "}", "_"):
                token = token[1:]
            written.append(token)
        return "".join(written)

    @staticmethod
    def _tokens(text: str, waiting: list[_Choice]) -> Iterator[str]:
        for token in _TOKENS.findall(text):
            if len(waiting) >= DEEPEST and len(token) > 1 and token[0] == "{":
                yield from _PARTS.findall(token)
            else:
                yield token

    def _chosen(self, options: list[str]) -> str:
        if not any("::" in option or "$$" in option for option in options):
            # What `choices` makes of equal weights, which is all that is left to do.
            return options[min(int(self.random.random() * len(options)), len(options) - 1)]
        least = most = 1
        joint = ", "
        if count := _COUNT.match(options[0]):
            least, most = int(count[1]), int(count[2] or count[1])
            joint = joint if count[3] is None else count[3]
            options = [options[0][count.end() :], *options[1:]]
        read = [_weighed(option) for option in options]
        wanted = self.random.randint(min(least, most), max(least, most)) if least != most else least
        chosen: list[str] = []
        while read and len(chosen) < wanted:
            weights = [weight for _, weight in read]
            place = self.random.choices(range(len(read)), weights if sum(weights) > 0 else None)[0]
            chosen.append(read.pop(place)[0])
        return joint.join(chosen)

    def _line(self, token: str, depth: int) -> str:
        lines = self.found.get(token)
        if lines is None:
            lines = self.found[token] = [
                (line, any(mark in line for mark in ("{", "__", "\\"))) for line in self._matching(token[2:-2])
            ]
        if not lines or depth >= DEEPEST or self.grown > LONGEST:
            return token
        # What `choice` draws, without its calls.
        bits = len(lines).bit_length()
        while (place := self.random.getrandbits(bits)) >= len(lines):
            pass
        line, draws = lines[place]
        self.grown += len(line)
        return self.expand(line, depth + 1) if draws else line

    def _matching(self, name: str) -> Iterator[str]:
        for each, lines in self.lists.items():
            if each == name or (("*" in name or "?" in name) and fnmatchcase(each, name)):
                yield from lines


def _weighed(option: str) -> tuple[str, float]:
    match = _WEIGHT.match(option)
    return (option, 1.0) if match is None else (option[match.end() :], min(float(match[1]), 1e9))
