"""Weights of tokens become weights in a context: what each program makes of (a cat:1.3) once the text encoder has read it.

Every window is encoded by itself, so that a context never depends on its neighbours. Where all weights are 1 nothing is done to it.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sfumato.models.clip_text import TextEncoding
from sfumato.recipe import Emphasis
from sfumato.text.prompts import Window

Encode = Callable[[Tensor, Tensor | None], TextEncoding]
"""Evaluates a text encoder: ids `1 n`, and which of them are seen, `1 n` or None for all."""

LEAST = 1e-5
"""The least weight that compel's blending knows: at 0 it would divide by nothing."""


def weighted_context(
    windows: Sequence[Window], empty: Window, emphasis: Emphasis, encode: Encode, device: torch.device
) -> TextEncoding:
    """The context of a text's windows, one behind the other, `1 tokens width`, and the pooled vector of the first window."""

    def encoded(window: Window, seen: Tensor | None = None) -> TextEncoding:
        return encode(torch.tensor([window.ids], dtype=torch.long, device=device), seen)

    encodings = [encoded(window) for window in windows]
    contexts = [encoding.hidden for encoding in encodings]
    if any(window.weighted for window in windows):
        match emphasis:
            case "a1111" | "a1111_no_norm":
                keep_mean = emphasis == "a1111"
                pairs = zip(contexts, windows, strict=True)
                contexts = [scaled(context, window, keep_mean=keep_mean) for context, window in pairs]
            case "comfy":
                nothing = encoded(empty).hidden
                pairs = zip(contexts, windows, strict=True)
                contexts = [from_empty(context, window, nothing) for context, window in pairs]
            case "compel":
                contexts = _blended(contexts, windows, encoded(empty).hidden, encoded)
            case "none":
                pass
    return TextEncoding(torch.cat(contexts, dim=1), encodings[0].pooled)


def scaled(context: Tensor, window: Window, *, keep_mean: bool) -> Tensor:
    """Each token's vector times its weight; then all of them scaled so that their mean is what it was, if it is kept.

    Source: AUTOMATIC1111's web UI, `sd_emphasis.py`: "Original", and "No norm" where the mean is not kept.
    """
    if not window.weighted:
        return context
    before = context.to(torch.float32)
    after = before * _weights(window, before)
    if keep_mean:
        mean = after.mean()
        # Weights of 0 alone leave nothing whose mean could be restored.
        after = after * (before.mean() / mean) if mean != 0 else after
    return after.to(context.dtype)


def from_empty(context: Tensor, window: Window, empty: Tensor) -> Tensor:
    """Each token's vector, moved from that of the empty text at its place towards itself, and past it, by its weight.

    Source: ComfyUI, `sd1_clip.py`; compel does the same before it blends.
    """
    if not window.weighted:
        return context
    weights = _weights(window, context)
    moved = empty.to(torch.float32) + (context.to(torch.float32) - empty.to(torch.float32)) * weights
    # Where the weight is 1 it is the vector itself, bit for bit.
    return torch.where(weights == 1, context, moved.to(context.dtype))


def _blended(
    contexts: Sequence[Tensor],
    windows: Sequence[Window],
    empty: Tensor,
    encoded: Callable[[Window, Tensor], TextEncoding],
) -> list[Tensor]:
    """compel's way: tokens moved from the empty text by their weight; and for each span of a weight under 1, the same text with that
    span out of sight, blended in by tan((1 - weight) π/2).

    Source: compel, `embeddings_provider.py`.
    """
    base = [from_empty(context, window, empty) for context, window in zip(contexts, windows, strict=True)]
    spans = {
        span: weight
        for window in windows
        for span, weight in zip(window.spans, window.weights, strict=True)
        if span >= 0 and weight < 1
    }
    total, share = [each.to(torch.float32) for each in base], 1.0
    for span, weight in spans.items():
        blend = math.tan((1 - max(weight, LEAST)) * math.pi / 2)
        for place, window in enumerate(windows):
            without = base[place]
            if span in window.spans:
                seen = torch.tensor([[each != span for each in window.spans]], device=empty.device)
                without = from_empty(encoded(window, seen).hidden, window, empty)
            total[place] = total[place] + blend * without.to(torch.float32)
        share += blend
    return [(each / share).to(empty.dtype) for each in total]


def _weights(window: Window, like: Tensor) -> Tensor:
    """The weights, `1 n 1`, in float32."""
    return torch.tensor(window.weights, dtype=torch.float32, device=like.device)[None, :, None]
