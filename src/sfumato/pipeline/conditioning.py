"""From words to the contexts that steer the network, and what had to be said about them on the way."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.engine import Conditioning, evaluating
from sfumato.models.clip_text import CLIPTextEncoder, TextEncoding
from sfumato.pipeline.emphasis import weighted_context
from sfumato.pipeline.prompt_rows import Rows, emphasised_rows, row_of
from sfumato.pipeline.request import Request, Text, check_clip_skip, check_count, check_embeds, check_prompts
from sfumato.recipe import Emphasis
from sfumato.text.prompts import Span, empty_window, read_windows
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.words import KnownWords

logger = logging.getLogger("sfumato")


class PromptEncoder:
    """Encodes prompts one by one, so that a context never depends on its neighbours; equal prompts are encoded once.

    `notes` collects what was cut from prompts that were too long, and the words that are not among the model's `words`, each note once.
    `adapters` run beside the encoder.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: CLIPTextEncoder,
        words: KnownWords | None = None,
        adapters: ActiveAdapters = NO_ADAPTERS,
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._words = words
        self._adapters = adapters
        self._known: dict[tuple[str, int | None], Conditioning] = {}
        self._weighted: dict[tuple[str, Emphasis, int | None, int], Conditioning] = {}
        self.notes: list[str] = []

    def __call__(self, prompt: str, clip_skip: int | None = None) -> Conditioning:
        """The conditioning of one prompt, its context `tokens dim`, without the encoder's last `clip_skip` layers."""
        key = prompt, clip_skip
        if key not in self._known:
            self._known[key] = Conditioning(self._encode(prompt, clip_skip))
        return self._known[key]

    def _encode(self, prompt: str, clip_skip: int | None) -> Tensor:
        tokens = self._tokenizer.encode(prompt)
        if tokens.dropped:
            room = self._tokenizer.max_length - 2
            self.note(f"the prompt is longer than the {room} tokens the model reads; not seen: {tokens.dropped!r}")
        if self._words is not None and (note := self._words.note_on(prompt, unread=tokens.dropped)):
            self.note(note)
        device = self._encoder.device
        ids = torch.tensor([tokens.ids], dtype=torch.long, device=device)
        beside = self._adapters.beside("text_encoder", self._encoder)
        with torch.no_grad(), evaluating("the prompt"), beside:
            return self._encoder(ids, clip_skip=clip_skip).hidden[0]

    def windows(self, text: str, emphasis: Emphasis) -> int:
        """How many windows a text takes."""
        return len(read_windows(text, emphasis, self._tokenizer).windows)

    def weighted(
        self, text: str, emphasis: Emphasis, clip_skip: int | None, *, windows: int, negative: bool
    ) -> Conditioning:
        """The conditioning of a text with weights, filled up to so many windows with those of an empty text."""
        del negative
        key = text, emphasis, clip_skip, windows
        if key not in self._weighted:
            reading = read_windows(text, emphasis, self._tokenizer)
            for note in reading.notes:
                self.note(note)
            words = " ".join(span.text for span in reading.spans if isinstance(span, Span))
            if self._words is not None and (unknown := self._words.note_on(words)):
                self.note(unknown)
            empty = empty_window(self._tokenizer)
            filled = [*reading.windows, *[empty] * (windows - len(reading.windows))]

            def encode(ids: Tensor, seen: Tensor | None) -> TextEncoding:
                return self._encoder(ids, clip_skip=clip_skip, seen=seen)

            beside = self._adapters.beside("text_encoder", self._encoder)
            with torch.no_grad(), evaluating("the prompt"), beside:
                context = weighted_context(filled, empty, emphasis, encode, self._encoder.device)
            self._weighted[key] = Conditioning(context.hidden[0])
        return self._weighted[key]

    def note(self, note: str) -> None:
        """Keep what has to be said of a prompt, once."""
        if note not in self.notes:
            self.notes.append(note)


def condition(
    texts: Sequence[Text],
    encode: PromptEncoder,
    embeds: Tensor | None,
    negative_embeds: Tensor | None,
    *,
    clip_skip: int | None,
    guided: bool,
) -> list[dict[str, Conditioning]]:
    """The conditionings of each text by row name: `cond`, and `uncond` where guidance will ask for it."""
    given = [] if embeds is None else [Conditioning(row) for row in embeds]
    given_negative = [] if negative_embeds is None else [Conditioning(row) for row in negative_embeds]
    rows: list[dict[str, Conditioning]] = []
    for i, text in enumerate(texts):
        row = {"cond": given[i] if text.prompt is None else encode(text.prompt, clip_skip)}
        if guided:
            # Negative prompts keep every layer: that is what clip_skip does in diffusers, and pictures depend on it.
            row["uncond"] = given_negative[i] if text.negative is None else encode(text.negative)
        rows.append(row)
    return rows


def conditioned(
    request: Request, encode: PromptEncoder, embeds: Tensor | None, negative_embeds: Tensor | None
) -> list[Rows]:
    """The rows of each text of a request: those of `condition`, and where there is emphasis what its prompts say beside."""
    guided, skip = request.guidance_scale > 1, request.clip_skip
    if request.emphasis == "none":
        rows = condition(request.texts, encode, embeds, negative_embeds, clip_skip=skip, guided=guided)
        return [Rows(first=row) for row in rows]
    return [
        emphasised_rows(
            text, encode, request.emphasis,
            given=row_of(embeds, i), given_negative=row_of(negative_embeds, i),
            steps=request.steps, scale=request.guidance_scale, clip_skip=skip,
        )
        for i, text in enumerate(request.texts)
    ]  # fmt: skip


def encode_prompt(
    tokenizer: Tokenizer,
    encoder: CLIPTextEncoder,
    words: KnownWords | None,
    adapters: ActiveAdapters,
    prompt: Any,
    negative: Any,
    embeds: Tensor | None,
    negative_embeds: Tensor | None,
    *,
    images: object,
    guided: bool,
    clip_skip: int | None,
    device: torch.device | str,
) -> tuple[Tensor, Tensor | None]:
    """The embeddings of prompts and of negative prompts, `b tokens dim` each, `images` rows for each prompt.

    Raises PromptError or OptionError. Words that find no room, or that the model was not taught, are said in the log.
    """
    texts = check_prompts(prompt, negative, embeds, negative_embeds)
    check_embeds(texts, embeds, negative_embeds, encoder.config.width, tokenizer.max_length if guided else None)
    clip_skip = check_clip_skip(clip_skip, encoder.config.layers)
    count = check_count("num_images_per_prompt", images)
    encode = PromptEncoder(tokenizer, encoder, words, adapters)
    rows = condition(texts, encode, embeds, negative_embeds, clip_skip=clip_skip, guided=guided)
    for note in encode.notes:
        logger.warning("%s", note)

    def stacked(name: str) -> Tensor:
        return torch.stack([row[name].context for row in rows]).repeat_interleave(count, dim=0).to(device)

    return stacked("cond"), stacked("uncond") if guided else None
