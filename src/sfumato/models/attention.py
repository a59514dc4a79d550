"""Attention as the latent diffusion U-Net uses it: over image positions, and from image positions to text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sfumato import native
from sfumato.models.ahead import gated, group_normed, layer_normed
from sfumato.models.convolution import Conv2d
from sfumato.models.kernels import attention, is_plain
from sfumato.models.linear import Linear
from sfumato.models.merging import Merging
from sfumato.models.resnet import zeroed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

MANY = 1 << 14
"""Scores of a head, queries × keys, from which on the kernel in C is faster than PyTorch's by more than a call of it costs."""


class Attention(nn.Module):
    """Multi-head attention from x to a context (itself when the widths agree and none is given).

    Keys and values can be computed apart, by `keys_values`, so that those of the text are made once per image.
    `slice_size` bounds how many heads are computed at a time: less memory, the same numbers. With `in_bytes` its products are int8. Queries, keys and values have a `bias` only
    in some networks.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.slice_size: int | None = None
        self.in_bytes = False
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(context_width or width, width, bias=bias)
        self.to_v = Linear(context_width or width, width, bias=bias)
        self.to_out = Linear(width, width)

    def keys_values(
        self, context: Float[Tensor, "b n k"]
    ) -> tuple[Float[Tensor, "b heads n d"], Float[Tensor, "b heads n d"]]:
        """Keys and values of a context, ready for `forward`."""
        return self._split(self.to_k(context)), self._split(self.to_v(context))

    def forward(
        self,
        x: Float[Tensor, "b m c"],
        keys_values: tuple[Tensor, Tensor] | None = None,
        identity: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b m c"]:
        """Attend from x to the given keys and values, or to x itself; in rows where `identity`, each position of x to itself alone."""
        return self.answer(self.to_q(x), self.keys_values(x) if keys_values is None else keys_values, identity)

    def answer(
        self,
        queries: Float[Tensor, "b m c"],
        keys_values: tuple[Tensor, Tensor],
        identity: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b m c"]:
        """What `forward` gives where `to_q` has given these queries."""
        k, v = keys_values
        attended = attend(self._split(queries), k, v, self.slice_size, in_bytes=self.in_bytes)
        if identity is not None:
            attended = torch.where(identity[:, None, None, None], v, attended)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, slice_size: int | None = None, *, in_bytes: bool = False) -> Tensor:
    """Scaled dot-product attention over `b heads n d`, at most `slice_size` heads at a time; the products `in_bytes`, where that can be.

    From so many scores on as make it worth while, by the kernel in C where there is one, which makes no matrix of them and so need not be
    sliced; else by PyTorch.
    """
    if _is_for_kernel(q, k, v, in_bytes):
        return native.attention(q, k, v, in_bytes=in_bytes)
    if slice_size is None or slice_size >= q.shape[1]:
        return attention(q, k, v)
    slices = zip(q.split(slice_size, 1), k.split(slice_size, 1), v.split(slice_size, 1), strict=True)
    return torch.cat([attention(*heads) for heads in slices], dim=1)


def _is_for_kernel(q: Tensor, k: Tensor, v: Tensor, in_bytes: bool) -> bool:
    """Decided by a head alone: a row gets the same bits whatever is computed beside it."""
    size = q.shape[-1]
    if is_plain(q) or size % 8 or size > native.LARGEST or k.shape != v.shape or k.shape[:2] != q.shape[:2]:
        return False
    if any((each.dtype, each.device) != (q.dtype, q.device) for each in (k, v)):
        return False
    if in_bytes:
        return native.why_not_in_bytes() is None
    return q.shape[2] * k.shape[2] >= MANY and native.why_not() is None


@dataclass(frozen=True, slots=True, eq=False)
class Perturbed:
    """Self-attentions that are switched off in some rows of a batch: there every position attends to itself alone.

    `attentions` are of one network; `rows` says of each row, `b`, whether it is one.
    Source: Ahn et al. 2024, arXiv:2403.17377, section 4 (the attention map replaced by the identity).
    """

    attentions: frozenset[nn.Module]
    rows: Tensor


class FeedForward(nn.Module):
    """Two linear layers around a gated GELU, four times as wide inside. Source: Shazeer 2020, arXiv:2002.05202, Eq. 6 (GEGLU)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_in = Linear(width, 2 * 4 * width)
        self.proj_out = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b n c` to `b n c`."""
        return self.proj_out(gated(self.proj_in(x), self.proj_out))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward: each on a normed copy, added back.

    Where a block is `only_cross`, the first attention looks at the text as well, and no position at another.
    """

    def __init__(self, width: int, heads: int, context_width: int, *, only_cross: bool = False) -> None:
        super().__init__()
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, context_width if only_cross else None)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads, context_width)
        self.norm3 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def reading(self) -> list[Attention]:
        """The attentions that look at the text, in the order they are called."""
        return [self.self_attention, self.cross_attention] if self.only_cross else [self.cross_attention]

    def forward(
        self,
        x: Float[Tensor, "b m c"],
        keys_values: Iterator[tuple[Tensor, Tensor]],
        perturbed: Perturbed | None = None,
        merging: Merging | None = None,
        size: torch.Size | None = None,
    ) -> Float[Tensor, "b m c"]:
        """Run the three layers on x; each attention to the text takes its keys and values from `keys_values`.

        `size` is that of the map which x was, where positions are merged.
        """
        identity = perturbed.rows if perturbed is not None and self.self_attention in perturbed.attentions else None
        if merging is not None and size is not None and self.self_attention in merging.attentions:
            merged, back = merging(self.norm1(x), size)
            x = x + back(self.self_attention(merged))
        else:
            own = self.self_attention
            readers = (own.to_q,) if self.only_cross else (own.to_q, own.to_k, own.to_v)
            normed = layer_normed(self.norm1, x, *readers, inside=own)
            x = x + own(normed, next(keys_values) if self.only_cross else None, identity)
        text, wide = self.cross_attention, self.feed_forward
        x = x + text(layer_normed(self.norm2, x, text.to_q, inside=text), next(keys_values))
        return x + wide(layer_normed(self.norm3, x, wide.proj_in, inside=wide))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, added back to it.

    Source: Rombach et al. 2022, arXiv:2112.10752, appendix E.2.1. SD 1 projects in and out by 1 × 1 convolutions, SD 2 by
    linear layers: the same arithmetic, but another shape of weight.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        context_width: int,
        depth: int,
        norm_groups: int,
        linear: bool,
        only_cross: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, heads, context_width, only_cross=only_cross) for _ in range(depth)
        )
        # At first the layer adds nothing: training starts from the plain convolutional network.
        self.proj_out = zeroed(Linear(channels, channels) if linear else Conv2d(channels, channels, 1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        keys_values: Iterator[tuple[Tensor, Tensor]],
        perturbed: Perturbed | None = None,
        merging: Merging | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Map x; its blocks take the text's keys and values from `keys_values`."""
        tokens = self._to_tokens(x)
        for block in self.blocks:
            tokens = block(tokens, keys_values, perturbed, merging, x.shape[-2:])
        return x + self._to_map(tokens, x.shape[-2:])

    def _to_tokens(self, x: Tensor) -> Tensor:
        x = group_normed(self.norm, x, self.proj_in, activated=False)
        if self.linear:
            return self.proj_in(x.permute(0, 2, 3, 1).flatten(1, 2))
        return self.proj_in(x).permute(0, 2, 3, 1).flatten(1, 2)

    def _to_map(self, tokens: Tensor, size: torch.Size) -> Tensor:
        if self.linear:
            return self.proj_out(tokens).unflatten(1, size).permute(0, 3, 1, 2)
        return self.proj_out(tokens.unflatten(1, size).permute(0, 3, 1, 2))
