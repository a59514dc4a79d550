"""From words to the contexts that steer the network, and what had to be said about them on the way."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.engine import Conditioning, evaluating
from sfumato.models.clip_text import CLIPTextEncoder, TextEncoding
from sfumato.models.unet import Told
from sfumato.pipeline.emphasis import weighted_context
from sfumato.pipeline.prompt_rows import Rows, emphasised_rows, steady_rows
from sfumato.pipeline.request import Request, Text
from sfumato.recipe import Emphasis
from sfumato.text.prompts import Span, empty_window, read_windows
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.words import KnownWords

logger = logging.getLogger("sfumato")

Telling = Callable[[Tensor | None, bool], Told | None]
"""What the network is told beside a text: made of the text's pooled vector, and whether it is a negative one."""


def nothing_told(pooled: Tensor | None, negative: bool) -> None:
    """What most networks are told beside a text."""
    del pooled, negative


@dataclass(frozen=True, slots=True)
class Reader:
    """A text encoder with its tokenizer, by its name as a part of the pipeline."""

    name: str
    tokenizer: Tokenizer
    encoder: CLIPTextEncoder


class PromptEncoder:
    """Encodes prompts one by one, so that a context never depends on its neighbours; equal prompts are encoded once.

    The contexts of several `readers` are put side by side. They are `early`, as SDXL's are, where the last layer is left out, and not
    `normed`, as SDXL's and the latent upscaler's are not, where the final norm is; the pooled vector is the last reader's. `telling` says
    what the network is told beside a text.
    `notes` collects what was cut from prompts that were too long, and the words that are not among the model's `words`, each note once.
    `adapters` run beside the encoders.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        words: KnownWords | None = None,
        adapters: ActiveAdapters = NO_ADAPTERS,
        *,
        early: bool = False,
        normed: bool = True,
        telling: Telling = nothing_told,
    ) -> None:
        self._readers = readers
        self._words = words
        self._adapters = adapters
        self._early, self._normed = early, normed
        self._telling = telling
        self._known: dict[tuple[tuple[str, ...], int | None, bool], Conditioning] = {}
        self._weighted: dict[tuple[tuple[str, ...], Emphasis, int | None, int, bool], Conditioning] = {}
        self.notes: list[str] = []

    def __call__(
        self, prompts: tuple[str, str], clip_skip: int | None = None, *, negative: bool = False
    ) -> Conditioning:
        """The conditioning of one prompt, its context `tokens dim`, without the encoders' last `clip_skip` layers.

        `prompts` are the prompt for each reader, of which there may be one. Negative ones are told apart by what is told beside them.
        """
        key = prompts[: len(self._readers)], clip_skip, negative
        if key not in self._known:
            contexts: list[Tensor] = []
            pooled = None
            for reader, prompt in zip(self._readers, prompts, strict=False):
                hidden, pooled = self._encode(reader, prompt, clip_skip)
                contexts.append(hidden)
            self._known[key] = self.given(torch.cat(contexts, dim=-1), pooled, negative=negative)
        return self._known[key]

    def given(self, context: Tensor, pooled: Tensor | None, *, negative: bool) -> Conditioning:
        """The conditioning of embeddings: a context `tokens dim`, and what is told beside it."""
        return Conditioning(context, self._telling(pooled, negative))

    def zeros(self, like: Conditioning) -> Conditioning:
        """The negative conditioning of a text of zeros, as long as another."""
        pooled = None if like.told is None or like.told.pooled is None else torch.zeros_like(like.told.pooled[0])
        return self.given(torch.zeros_like(like.context), pooled, negative=True)

    def _encode(self, reader: Reader, prompt: str, clip_skip: int | None) -> tuple[Tensor, Tensor]:
        tokens = reader.tokenizer.encode(prompt)
        if tokens.dropped:
            room = reader.tokenizer.max_length - 2
            self.note(f"the prompt is longer than the {room} tokens the model reads; not seen: {tokens.dropped!r}")
        if self._words is not None and (note := self._words.note_on(prompt, unread=tokens.dropped)):
            self.note(note)
        ids = torch.tensor([tokens.ids], dtype=torch.long, device=reader.encoder.device)
        with torch.no_grad(), evaluating("the prompt"), self._adapters.beside(reader.name, reader.encoder):
            encoding = self._evaluate(reader, ids, clip_skip)
        return encoding.hidden[0], encoding.pooled[0]

    def _evaluate(self, reader: Reader, ids: Tensor, clip_skip: int | None, seen: Tensor | None = None) -> TextEncoding:
        skip = (clip_skip or 0) + 1 if self._early else clip_skip
        return reader.encoder(ids, clip_skip=skip, normed=self._normed, seen=seen)

    def windows(self, texts: tuple[str, str], emphasis: Emphasis) -> int:
        """How many windows texts take, at the reader that takes the most for its own."""
        read = zip(self._readers, texts, strict=False)
        return max(len(read_windows(text, emphasis, reader.tokenizer).windows) for reader, text in read)

    def weighted(
        self, texts: tuple[str, str], emphasis: Emphasis, clip_skip: int | None, *, windows: int, negative: bool
    ) -> Conditioning:
        """The conditioning of texts with weights, one for each reader, filled up to so many windows with those of an empty text.

        The pooled vector is that of the first window, at the last reader. Negative texts are told apart by what is told beside them.
        """
        key = texts[: len(self._readers)], emphasis, clip_skip, windows, negative
        if key not in self._weighted:
            encodings = [
                self._encode_weighted(reader, text, emphasis, clip_skip, windows)
                for reader, text in zip(self._readers, texts, strict=False)
            ]
            context = torch.cat([encoding.hidden[0] for encoding in encodings], dim=-1)
            self._weighted[key] = self.given(context, encodings[-1].pooled[0], negative=negative)
        return self._weighted[key]

    def _encode_weighted(
        self, reader: Reader, text: str, emphasis: Emphasis, clip_skip: int | None, windows: int
    ) -> TextEncoding:
        reading = read_windows(text, emphasis, reader.tokenizer)
        for note in reading.notes:
            self.note(note)
        words = " ".join(span.text for span in reading.spans if isinstance(span, Span))
        if self._words is not None and (unknown := self._words.note_on(words)):
            self.note(unknown)
        empty = empty_window(reader.tokenizer)
        filled = [*reading.windows, *[empty] * (windows - len(reading.windows))]

        def encode(ids: Tensor, seen: Tensor | None) -> TextEncoding:
            return self._evaluate(reader, ids, clip_skip, seen)

        with torch.no_grad(), evaluating("the prompt"), self._adapters.beside(reader.name, reader.encoder):
            return weighted_context(filled, empty, emphasis, encode, reader.encoder.device)

    def note(self, note: str) -> None:
        """Keep what has to be said of a prompt, once."""
        if note not in self.notes:
            self.notes.append(note)


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeds:
    """Embeddings of the caller's, one row a prompt: contexts, and pooled texts where the model reads them."""

    prompt: Tensor | None = None
    negative: Tensor | None = None
    pooled: Tensor | None = None
    negative_pooled: Tensor | None = None


def condition(
    texts: Sequence[Text],
    encode: PromptEncoder,
    embeds: Embeds,
    *,
    clip_skip: int | None,
    guided: bool,
    zeros: bool = False,
) -> list[dict[str, Conditioning]]:
    """The conditionings of each text by row name: `cond`, and `uncond` where guidance will ask for it.

    `zeros`: what to keep away from is a text of zeros.
    """
    rows: list[dict[str, Conditioning]] = []
    for i, text in enumerate(texts):
        if text.prompts is not None:
            row = {"cond": encode(text.prompts, clip_skip)}
        else:
            row = {"cond": encode.given(row_of(embeds.prompt, i), pooled_of(embeds.pooled, i), negative=False)}
        if guided and text.negatives is None:
            pooled = pooled_of(embeds.negative_pooled, i)
            row["uncond"] = encode.given(row_of(embeds.negative, i), pooled, negative=True)
        elif guided and zeros:
            row["uncond"] = encode.zeros(row["cond"])
        elif guided and text.negatives is not None:
            # Negative prompts keep every layer: that is what clip_skip does in diffusers, and pictures depend on it.
            row["uncond"] = encode(text.negatives, negative=True)
        rows.append(row)
    return rows


def given_row(
    encode: PromptEncoder, contexts: Tensor | None, pooled: Tensor | None, index: int, *, negative: bool
) -> Conditioning | None:
    """The conditioning of a row of embeddings, if there are any."""
    return None if contexts is None else encode.given(contexts[index], pooled_of(pooled, index), negative=negative)


def conditioned(request: Request, encode: PromptEncoder, embeds: Embeds) -> list[Rows]:
    """The rows of each text of a request: those of `condition`, and where there is emphasis what its prompts say beside."""
    zeros, skip = request.beside is not None and request.beside.zeros, request.clip_skip
    if request.emphasis == "none":
        rows = condition(request.texts, encode, embeds, clip_skip=skip, guided=request.guided, zeros=zeros)
        return [Rows(first=row) for row in rows]
    return [
        emphasised_rows(
            text, encode, request.emphasis,
            given=given_row(encode, embeds.prompt, embeds.pooled, i, negative=False),
            given_negative=given_row(encode, embeds.negative, embeds.negative_pooled, i, negative=True),
            steps=request.steps, guided=request.guided, clip_skip=skip, zeros=zeros,
        )
        for i, text in enumerate(request.texts)
    ]  # fmt: skip


def steady(
    texts: Sequence[Text],
    encode: PromptEncoder,
    embeds: Embeds,
    emphasis: Emphasis,
    *,
    clip_skip: int | None,
    guided: bool,
    zeros: bool,
) -> list[dict[str, Conditioning]]:
    """The rows of texts as embeddings say them, for a whole run. Raises PromptError for a text of which they can't."""
    if emphasis == "none":
        return condition(texts, encode, embeds, clip_skip=clip_skip, guided=guided, zeros=zeros)
    given = [
        (
            given_row(encode, embeds.prompt, embeds.pooled, i, negative=False),
            given_row(encode, embeds.negative, embeds.negative_pooled, i, negative=True),
        )
        for i in range(len(texts))
    ]
    return steady_rows(texts, encode, emphasis, given, guided=guided, clip_skip=clip_skip, zeros=zeros)


def row_of(embeds: Tensor | None, index: int) -> Tensor:
    """A row of embeddings that were given: a text without words has them."""
    assert embeds is not None, "a text has neither words nor embeddings"
    return embeds[index]


def pooled_of(pooled: Tensor | None, index: int) -> Tensor | None:
    """A row of pooled texts, if there are any."""
    return None if pooled is None else pooled[index]


def stacked(rows: Sequence[dict[str, Conditioning]], name: str, count: int, *, with_pooled: bool = False) -> Tensor:
    """The contexts of rows of one name, or their pooled texts, `count` times each: `b tokens dim`, or `b p`."""

    def tensor(one: Conditioning) -> Tensor:
        if not with_pooled:
            return one.context
        pooled = None if one.told is None else one.told.pooled
        assert pooled is not None, "this network is told no pooled text"
        return pooled[0]

    return torch.stack([tensor(row[name]) for row in rows]).repeat_interleave(count, dim=0)
