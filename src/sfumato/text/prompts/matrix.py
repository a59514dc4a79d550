"""Prompt matrices: `a cat|in a hat|at night` is every combination of what follows the first bar.

    a cat
    a cat, in a hat
    a cat, at night
    a cat, in a hat, at night

As the web UI's script of that name makes them, but for one thing: a bar inside `[ ]` or `{ }` is that of an alternation or a choice.
"""

from dataclasses import dataclass
from itertools import pairwise

from sfumato.errors import PromptError

MOST_PARTS = 12
"""Optional parts of a matrix: 4,096 combinations."""

_CLOSES = {"[": "]", "{": "}"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptMatrix:
    """The text that is always there, and the parts that may follow it."""

    base: str
    parts: tuple[str, ...]

    def prompt(self, chosen: int) -> str:
        """The prompt with the parts whose bits are set: bit 0 for the first."""
        return joined(self.base, self.chosen(chosen))

    def chosen(self, bits: int) -> tuple[str, ...]:
        """The parts whose bits are set."""
        return tuple(part for place, part in enumerate(self.parts) if bits >> place & 1)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All combinations, in the web UI's order: the first part changes fastest."""
        return tuple(self.prompt(bits) for bits in range(2 ** len(self.parts)))


def prompt_matrix(text: str) -> PromptMatrix:
    """Read a matrix; a text without bars is one of a single prompt. Raises PromptError for more parts than can be drawn."""
    base, *parts = (part.strip() for part in _split(text))
    kept = tuple(stripped for part in parts if (stripped := part.strip(", ")))
    if len(kept) > MOST_PARTS:
        raise PromptError(
            f"the prompt matrix has {len(kept)} optional parts, which make {2 ** len(kept):,} pictures; "
            f"{MOST_PARTS} parts are the most"
        )
    return PromptMatrix(base=base, parts=kept)


def joined(base: str, parts: tuple[str, ...]) -> str:
    """Parts after a text, with commas between."""
    return ", ".join(part for part in (base, *parts) if part)


def _split(text: str) -> list[str]:
    """The text cut at its bars, but for those in brackets that are closed."""
    opened: list[tuple[str, int]] = []
    bars: list[int] = []
    escaped = False
    for place, letter in enumerate(text):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter in _CLOSES:
            opened.append((letter, place))
        elif opened and letter == _CLOSES[opened[-1][0]]:
            _, start = opened.pop()
            while bars and bars[-1] > start:
                bars.pop()
        elif letter == "|":
            bars.append(place)
    return [text[start + 1 : end] for start, end in pairwise([-1, *bars, len(text)])]
