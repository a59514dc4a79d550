"""The conditionings of a picture, from a prompt with emphasis: which it begins with, what changes after which step, and its parts' weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sfumato.diffusion.guidance import WHOLE, asks_uncond, part_rows
from sfumato.engine import Conditioning
from sfumato.errors import PromptError
from sfumato.pipeline.request import Text
from sfumato.pipeline.second_prompts import PromptPair, read_pair
from sfumato.recipe import Emphasis


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

    def windows(self, texts: tuple[str, str], emphasis: Emphasis) -> int:
        """How many windows a text, or the longer of two, takes."""
        ...

    def weighted(
        self, texts: tuple[str, str], emphasis: Emphasis, clip_skip: int | None, *, windows: int, negative: bool
    ) -> Conditioning:
        """The conditioning of a text with weights, or of two, filled up to so many windows with those of an empty text."""
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
    least: int = 1,
) -> Rows:
    """The rows of one text for a run of `steps`; `given` stand for what of it came as embeddings. A second prompt has its own markup.

    `guided` says whether guidance asks for a second answer whatever the parts' weights, `zeros` that what to keep away from is a text of zeros.

    All contexts have the length of the longest, or of `least` windows: the shorter ones are filled up with those of an empty text.
    Negative prompts keep every layer, as in diffusers. Raises PromptError where embeddings meet a text that is longer than they are, or
    where a second prompt's parts don't go with the first's.
    """
    prompt = None if text.prompt is None else read_pair(text.prompt, text.prompt_2, emphasis)
    weights = WHOLE if prompt is None else prompt.weights
    negative = None
    guided = guided or asks_uncond(1.0, weights)
    zeros = zeros and guided and given_negative is None
    if guided and not zeros and text.negative is not None:
        negative = read_pair(text.negative, text.negative_2, emphasis, negative=True)
    for note in (note for each in (prompt, negative) if each is not None for note in each.notes):
        encode.note(note)

    windows = max((encode.windows(words, emphasis) for words in _texts((prompt, negative), steps)), default=1)
    windows = max(windows, least)
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


def steady_rows(
    texts: Sequence[Text],
    encode: Encoder,
    emphasis: Emphasis,
    given: Sequence[tuple[Conditioning | None, Conditioning | None]],
    *,
    guided: bool,
    clip_skip: int | None,
    zeros: bool = False,
) -> list[dict[str, Conditioning]]:
    """The rows of texts that are one context each for a whole run, all of one length; `given` are those that came as embeddings.

    Raises PromptError for a text that is in parts, or changes on the way: no embedding says that.
    """
    pairs: list[PromptPair] = []
    for text in texts:
        for words, second, negative in ((text.prompt, text.prompt_2, False), (text.negative, text.negative_2, True)):
            if words is None or (negative and (zeros or not guided)):
                continue
            pairs.append(read_pair(words, second, emphasis, negative=negative))
            if not pairs[-1].is_steady:
                raise PromptError(
                    f"{words!r} is in parts or changes on the way, which embeddings can't say; give it to a call as words"
                )
    longest = max((encode.windows(words, emphasis) for words in _texts(pairs, 1)), default=1)
    return [
        emphasised_rows(
            text, encode, emphasis, given=own, given_negative=own_negative, steps=1, guided=guided, clip_skip=clip_skip,
            zeros=zeros, least=longest,
        ).first
        for text, (own, own_negative) in zip(texts, given, strict=True)
    ]  # fmt: skip


def _texts(prompts: Sequence[PromptPair | None], steps: int) -> Iterator[tuple[str, str]]:
    """Every text of a run, each once, in pairs."""
    seen = (text for each in prompts if each is not None for _, texts in each.schedule(steps) for text in texts)
    return iter(dict.fromkeys(seen))
