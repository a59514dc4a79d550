"""Tokens with their weights, cut into the windows that a text encoder reads: 77 ids each, of which 75 are the prompt's.

AUTOMATIC1111: when a window is full and its last comma is among the last 20 tokens, what follows the comma goes into the next window.
ComfyUI: a word of fewer than 8 tokens is not torn apart. compel: behind the last full stop of a full window; without one, behind the last
of , ; and :, without these behind the last whole word. An embedding of several tokens is never torn apart.
Sources: the web UI's `sd_hijack_clip.py`, ComfyUI's `sd1_clip.py`, compel's `embeddings_provider.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sfumato.recipe import Emphasis
from sfumato.text.batch import Frame
from sfumato.text.prompts.comfy import EMBEDDING, comfy_spans
from sfumato.text.prompts.compel import compel_spans
from sfumato.text.prompts.emphasis import Span, Spans, a1111_spans
from sfumato.text.tokenizer import Tokens

BACKTRACK = 20
LONG_WORD = 8
NO_SPAN = -1


class TokenSource(Frame, Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> Tokens: ...  # noqa: D102
    def token_runs(self, text: str) -> list[tuple[int, ...]]: ...  # noqa: D102
    def ends_word(self, number: int) -> bool: ...  # noqa: D102
    def knows(self, token: str) -> bool: ...  # noqa: D102
    def decode(self, ids: Iterable[int]) -> str: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One row for the text encoder.

    ids       start, tokens, end, padding: as many as the tokenizer's max_length
    weights   one for each id; 1 for start, end and padding
    spans     the number of the span that each id came from, -1 for start, end and padding
    kept      how many ids are the prompt's own
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    spans: tuple[int, ...]
    kept: int

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 1."""
        return any(weight != 1 for weight in self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A text as a text encoder reads it: its spans, at least one window, and notes on what was dropped."""

    spans: Spans
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()


def read_spans(text: str, emphasis: Emphasis) -> Spans:
    """The spans of a text in a mode's words; without emphasis it is one span."""
    match emphasis:
        case "a1111" | "a1111_no_norm":
            return a1111_spans(text)
        case "comfy":
            return comfy_spans(text)
        case "compel":
            return compel_spans(text)
        case "none":
            return (Span(text),) if text else ()


def read_windows(text: str, emphasis: Emphasis, tokenizer: TokenSource) -> Reading:
    """The windows of a text, as many as it takes, in a mode's words and by its rule of cutting. Without emphasis it is one, and the rest dropped."""
    spans = read_spans(text, emphasis)
    if emphasis == "none":
        return _cut_off(text, spans, tokenizer)
    packer = _Packer(tokenizer)
    for number, span in enumerate(spans):
        if not isinstance(span, Span):
            packer.close()
        elif emphasis == "comfy":
            _pack_comfy(packer, span, number, tokenizer)
        elif emphasis == "compel":
            _pack_compel(packer, span, number, tokenizer)
        else:
            _pack_a1111(packer, span, number, tokenizer)
    return Reading(spans=spans, windows=packer.finish(), notes=tuple(packer.notes))


def empty_window(tokenizer: TokenSource) -> Window:
    """The window of an empty text."""
    return _Packer(tokenizer).finish()[0]


def _cut_off(text: str, spans: Spans, tokenizer: TokenSource) -> Reading:
    tokens = tokenizer.encode(text)
    length, room = len(tokens.ids), tokenizer.max_length - 2
    window = Window(
        ids=tokens.ids,
        weights=(1.0,) * length,
        spans=(NO_SPAN, *[0] * tokens.kept, *[NO_SPAN] * (length - tokens.kept - 1)),
        kept=tokens.kept,
    )
    said = f"the prompt is longer than the {room} tokens the model reads; not seen: {tokens.dropped!r}"
    return Reading(spans=spans, windows=(window,), notes=(said,) if tokens.dropped else ())


@dataclass(slots=True)
class _Packer:
    """The window that is being filled, and those that are full."""

    tokenizer: TokenSource
    windows: list[Window] = field(default_factory=list[Window])
    notes: list[str] = field(default_factory=list[str])
    ids: list[int] = field(default_factory=list[int])
    weights: list[float] = field(default_factory=list[float])
    spans: list[int] = field(default_factory=list[int])

    @property
    def room(self) -> int:
        """Ids of a prompt that a window holds."""
        return self.tokenizer.max_length - 2

    def put(self, run: Sequence[int], weight: float, span: int) -> None:
        """Add ids that stay together, to the next window if this one has no place for all of them."""
        if len(run) > self.room:
            self.notes.append(f"an embedding of {len(run)} tokens is dropped: a window holds {self.room}")
            return
        if len(self.ids) + len(run) > self.room:
            self.close()
        self.ids += run
        self.weights += [weight] * len(run)
        self.spans += [span] * len(run)

    def close(self, keep: int | None = None) -> None:
        """End the window after its first `keep` ids (all, unless given); the others begin the next one."""
        count = len(self.ids) if keep is None else keep
        padding = self.room - count
        end, pad = self.tokenizer.end_id, self.tokenizer.pad_id
        self.windows.append(
            Window(
                ids=(self.tokenizer.start_id, *self.ids[:count], end, *[pad] * padding),
                weights=(1.0, *self.weights[:count], 1.0, *[1.0] * padding),
                spans=(NO_SPAN, *self.spans[:count], NO_SPAN, *[NO_SPAN] * padding),
                kept=count,
            )
        )
        self.ids, self.weights, self.spans = self.ids[count:], self.weights[count:], self.spans[count:]

    def finish(self) -> tuple[Window, ...]:
        """All windows; one of padding if there was nothing."""
        if self.ids or not self.windows:
            self.close()
        return tuple(self.windows)


def _pack_a1111(packer: _Packer, span: Span, number: int, tokenizer: TokenSource) -> None:
    comma = tokenizer.token_runs(",")
    for run in tokenizer.token_runs(span.text):
        if len(packer.ids) == packer.room and [run] != comma:
            # A comma counts only where it is one token by itself, which it is in every vocabulary of CLIP's.
            tail = packer.ids[-BACKTRACK:]
            if len(comma) == 1 and comma[0][0] in tail:
                packer.close(keep=packer.room - tail[::-1].index(comma[0][0]))
        packer.put(run, span.weight, number)


def _pack_compel(packer: _Packer, span: Span, number: int, tokenizer: TokenSource) -> None:
    stops = [{run[0] for mark in marks for run in tokenizer.token_runs(mark)} for marks in (".", ".,;:")]
    for run in tokenizer.token_runs(span.text):
        if len(packer.ids) == packer.room:
            places = range(packer.room, 0, -1)
            found = (keep for each in stops for keep in places if packer.ids[keep - 1] in each)
            whole = (keep for keep in places if tokenizer.ends_word(packer.ids[keep - 1]))
            packer.close(keep=next(found, None) or next(whole, packer.room))
        packer.put(run, span.weight, number)


def _pack_comfy(packer: _Packer, span: Span, number: int, tokenizer: TokenSource) -> None:
    for word in _comfy_words(span.text):
        runs = tokenizer.token_runs(word)
        if word.startswith(EMBEDDING):
            name = word.removeprefix(EMBEDDING)
            bare = name.strip(",")
            if not tokenizer.knows(bare):
                packer.notes.append(f"{word} is dropped: no embedding of that name is loaded")
                continue
            runs = [*tokenizer.token_runs(bare), *tokenizer.token_runs(name[len(bare) :])]
        ids = sum(map(len, runs))
        if ids < LONG_WORD and len(packer.ids) + ids > packer.room:
            packer.close()
        for run in runs:
            packer.put(run, span.weight, number)


def _comfy_words(text: str) -> Iterator[str]:
    return (word for word in text.replace("\n", " ").split(" ") if word)
