"""Prompts in pairs, one for each of two text encoders, each with markup of its own: what each reads, and until which step."""

from dataclasses import dataclass

from sfumato.errors import PromptError
from sfumato.recipe import Emphasis
from sfumato.text.prompts import Prompt, parse_prompt


@dataclass(frozen=True, slots=True)
class PromptPair:
    """What each of two text encoders reads; where there is one, the first is read. Both may be the same.

    The second has as many parts as the first, or one that goes with each of them. The parts' weights are the first's, since guidance goes
    towards what both say together.
    """

    first: Prompt
    second: Prompt

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part."""
        return self.first.weights

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken in a way that may surprise, in words."""
        if self.second is self.first:
            return self.first.notes
        unread = self.second.weights not in (self.first.weights, (1.0,) * len(self.second.parts))
        said = (
            ("the weights of the parts of prompt_2 are not read; those of the prompt's parts hold",) if unread else ()
        )
        return tuple(dict.fromkeys((*self.first.notes, *self.second.notes, *said)))

    @property
    def is_steady(self) -> bool:
        """Whether it is one context for a whole run: in one part, and without changes."""
        parts = (*self.first.parts, *self.second.parts)
        return self.weights == (1.0,) and not any(part.changes for part in parts)

    def schedule(self, steps: int) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
        """The texts of all parts during a run of `steps`, a pair each, each set with the last step that it is for; neighbours differ."""
        firsts, seconds = (dict(prompt.schedule(steps)) for prompt in (self.first, self.second))
        found: list[tuple[int, tuple[tuple[str, str], ...]]] = []
        first, second = firsts[steps], seconds[steps]
        # From the last step backwards: a text that ends later is still there.
        for end in sorted({*firsts, *seconds}, reverse=True):
            first, second = firsts.get(end, first), seconds.get(end, second)
            found.append((end, tuple(zip(first, second * (len(first) // len(second)), strict=True))))
        return found[::-1]


def read_pair(text: str, second: str | None, emphasis: Emphasis, *, negative: bool = False) -> PromptPair:
    """A prompt and the second one beside it, if there is one. Raises PromptError for parts that don't go together."""
    first = parse_prompt(text, emphasis, negative=negative)
    pair = PromptPair(first, first if second is None else parse_prompt(second, emphasis, negative=negative))
    if len(pair.second.parts) not in (1, len(first.parts)):
        raise PromptError(
            f"prompt_2 has {len(pair.second.parts)} parts and the prompt {len(first.parts)}; give it one, or as many, with AND between them"
        )
    return pair
