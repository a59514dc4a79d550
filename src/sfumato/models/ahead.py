"""What is made ready for a layer in int8 by what comes before it: norms and activations whose answers are its bytes at once.

Where the next layer is not in int8, has no scale of its own, or someone looks at what goes into it, they answer in float as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import native
from sfumato.models.convolution import Conv2d, wrapped_axes
from sfumato.models.int8 import Scale
from sfumato.models.kernels import is_plain
from sfumato.models.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float


def layer_normed(norm: nn.LayerNorm, x: Float[Tensor, "*b c"], *layers: nn.Module) -> Tensor:
    """The norm of x, for layers that all read it."""
    if (scale := _wanted(x, x.shape[-1], layers)) is None or _is_watched(norm):
        return norm(x)
    return native.layer_normed(x, norm.weight, norm.bias, norm.eps, scale.scale, scale.zero)


def group_normed(
    norm: nn.GroupNorm,
    x: Float[Tensor, "b c h w"],
    layer: nn.Module,
    *,
    shift: Float[Tensor, "b c"] | None = None,
    activated: bool = True,
) -> Tensor:
    """The norm of x + shift and, if `activated`, SiLU of it, for one layer. With a shift, x may be written over."""
    scale = _wanted(x, x.shape[1], (layer,)) if x.is_contiguous(memory_format=torch.channels_last) else None
    if scale is None or _is_watched(norm):
        normed = norm(x if shift is None else added(x, shift[:, :, None, None]))
        return silu(normed) if activated else normed
    return native.group_normed(
        x, shift, norm.num_groups, norm.weight, norm.bias, norm.eps, activated, scale.scale, scale.zero
    )


def gated(pairs: Float[Tensor, "*b 2c"], layer: nn.Module) -> Tensor:
    """value · GELU(gate) of values and gates behind each other, for one layer."""
    if (scale := _wanted(pairs, pairs.shape[-1] // 2, (layer,))) is None:
        value, gate = pairs.chunk(2, dim=-1)
        return value * F.gelu(gate)
    return native.gated(pairs, scale.scale, scale.zero)


def silu(normed: Tensor) -> Tensor:
    """SiLU of what a norm gave out, written over it unless a gradient is wanted: nobody else has it, and maps are large."""
    return F.silu(normed, inplace=not torch.is_grad_enabled())


def added(made: Tensor, other: Tensor) -> Tensor:
    """made + other, written over `made`, which nobody else has, unless a gradient is wanted."""
    return made.add(other) if torch.is_grad_enabled() else made.add_(other)


def _wanted(x: Tensor, channels: int, layers: tuple[nn.Module, ...]) -> Scale | None:
    """The scale by which all these layers take bytes; None where one does not, or has another."""
    scales = {_scale_of(layer) for layer in layers}
    if len(scales) != 1 or None in scales or channels % native.LANES or is_plain(x):
        return None
    if wrapped_axes() or native.why_not_in_bytes() is not None:
        return None
    return scales.pop()


def _scale_of(layer: nn.Module) -> Scale | None:
    if not isinstance(layer, Linear | Conv2d) or layer.int8 is None or _is_watched(layer):
        return None
    return layer.int8.scale


def _is_watched(layer: nn.Module) -> bool:
    """Whether someone looks at what goes into the layer, or changes what comes out of it, as adapters beside it do."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)
