"""The conditionings of a picture, from a prompt with emphasis: which it begins with, what changes after which step, and its parts' weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sfumato.diffusion.guidance import WHOLE, asks_uncond, part_rows
from sfumato.engine import Conditioning
from sfumato.errors import PromptError
from sfumato.pipeline.request import Text
from sfumato.recipe import Emphasis
from sfumato.text.prompts import Prompt, parse_prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """One picture's conditionings by the names of guidance's rows.

    first     those that it begins with
    changes   the rows that have others, by how many steps were finished before
    weights   of the prompt's parts
    """

    first: dict[str, Conditioning]
    changes: dict[int, dict[str, Conditioning]] = field(default_factory=dict[int, dict[str, Conditioning]])
    weights: tuple[float, ...] = WHOLE


class Encoder(Protocol):
    """What is needed of the text encoders: `PromptEncoder` has it."""

    def windows(self, text: str, emphasis: Emphasis) -> int:
        """How many windows a text takes."""
        ...

    def weighted(
        self, text: str, emphasis: Emphasis, clip_skip: int | None, *, windows: int, negative: bool
    ) -> Conditioning:
        """The conditioning of a text with weights, filled up to so many windows with those of an empty text."""
        ...

    def zeros(self, like: Conditioning) -> Conditioning:
        """The negative conditioning of a text of zeros, as long as another."""
        ...

    def note(self, note: str) -> None:
        """Keep what has to be said of a prompt."""
        ...


def emphasised_rows(
    text: Text,
    encode: Encoder,
    emphasis: Emphasis,
    *,
    given: Conditioning | None = None,
    given_negative: Conditioning | None = None,
    steps: int,
    guided: bool,
    clip_skip: int | None,
    zeros: bool = False,
) -> Rows:
    """The rows of one text for a run of `steps`; `given` stand for what of it came as embeddings.

    `guided` says whether guidance asks for a second answer whatever the parts' weights, `zeros` that what to keep away from is a text of zeros.

    All contexts have the length of the longest: the shorter ones are filled up with windows of an empty text. Negative prompts keep every
    layer, as in diffusers. Raises PromptError where embeddings meet a text that is longer than they are.
    """
    prompt = None if text.prompt is None else parse_prompt(text.prompt, emphasis)
    weights = WHOLE if prompt is None else prompt.weights
    negative = None
    guided = guided or asks_uncond(1.0, weights)
    zeros = zeros and guided and given_negative is None
    if guided and not zeros and text.negative is not None:
        negative = parse_prompt(text.negative, emphasis, negative=True)
    for note in (note for each in (prompt, negative) if each is not None for note in each.notes):
        encode.note(note)

    windows = max((encode.windows(words, emphasis) for words in _texts((prompt, negative), steps)), default=1)
    if windows > 1 and (given is not None or (guided and given_negative is not None)):
        raise PromptError(
            f"embeddings were given beside a text that takes {windows} windows of tokens; give embeddings for both, of equal length"
        )
    rows = Rows(first={}, weights=weights)
    if given is not None:
        rows.first["cond"] = given
    if guided and given_negative is not None:
        rows.first["uncond"] = given_negative
    for each, names, skip in ((prompt, part_rows(len(weights)), clip_skip), (negative, ("uncond",), None)):
        finished = 0
        for end, texts in [] if each is None else each.schedule(steps):
            at_once = rows.first if not finished else rows.changes.setdefault(finished, {})
            for name, words in zip(names, texts, strict=True):
                at_once[name] = encode.weighted(words, emphasis, skip, windows=windows, negative=name == "uncond")
            finished = end
    if zeros:
        rows.first["uncond"] = encode.zeros(rows.first["cond"])
    return rows


def _texts(prompts: Sequence[Prompt | None], steps: int) -> Iterator[str]:
    """Every text of a run, each once."""
    seen = (text for each in prompts if each is not None for _, texts in each.schedule(steps) for text in texts)
    return iter(dict.fromkeys(seen))
