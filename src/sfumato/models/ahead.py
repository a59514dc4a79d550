"""What is made ready for a layer in int8 by what comes before it: norms and activations whose answers are its bytes at once.

Where the next layer is not in int8, has no scale of its own, or someone looks at what goes into it, they answer in float as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as _every

from sfumato import native
from sfumato.models.convolution import Conv2d, wrapped_axes
from sfumato.models.int8 import Scale
from sfumato.models.kernels import is_plain
from sfumato.models.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float


IDLE = "is_idle"
"""An attribute of hooks: a function of a layer that says whether they leave it alone here and now."""


def layer_normed(norm: nn.LayerNorm, x: Float[Tensor, "*b c"], *layers: nn.Module, inside: nn.Module) -> Tensor:
    """The norm of x, for layers that all read it, `inside` a module whose input it is."""
    if _is_watched(inside) or not _is_plain(norm, nn.LayerNorm):
        return norm(x)
    if (scale := _wanted(x, x.shape[-1], layers)) is None:
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
    """The norm of x + shift and, if `activated`, SiLU of it, for one layer."""
    if not takes_bytes(norm, x, layer):
        normed = norm(x if shift is None else x + shift[:, :, None, None])
        return silu(normed) if activated else normed
    scale = _scale_of(layer)
    assert scale is not None, "it takes bytes"
    groups, eps = norm.num_groups, norm.eps
    return native.group_normed(x, shift, groups, norm.weight, norm.bias, eps, activated, scale.scale, scale.zero)


def takes_bytes(norm: nn.GroupNorm, x: Float[Tensor, "b c h w"], layer: nn.Module) -> bool:
    """Whether `group_normed` hands the layer bytes."""
    return (
        _wanted(x, x.shape[1], (layer,)) is not None
        and _is_plain(norm, nn.GroupNorm)
        and x.is_contiguous(memory_format=torch.channels_last)
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


def _wanted(x: Tensor, channels: int, layers: tuple[nn.Module, ...]) -> Scale | None:
    """The scale by which all these layers take bytes; None where one does not, or has another."""
    first = _scale_of(layers[0])
    if (
        first is None
        or any(_scale_of(layer) != first for layer in layers[1:])
        or channels % native.LANES
        or is_plain(x)
    ):
        return None
    if wrapped_axes() or native.why_not_in_bytes() is not None:
        return None
    return first


def _scale_of(layer: nn.Module) -> Scale | None:
    if not isinstance(layer, Linear | Conv2d) or layer.int8 is None or _is_watched(layer):
        return None
    return layer.int8.scale


def _is_plain(norm: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a norm computes as its kind does, and has weights, and nobody looks at it."""
    return (
        type(norm).forward is kind.forward
        and norm.weight is not None
        and norm.bias is not None
        and not _is_watched(norm)
    )


def _is_watched(module: nn.Module) -> bool:
    """Whether someone looks at what goes into a module, or changes what comes out of it."""
    if _of_all_modules():
        return True
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return any(not (hasattr(hook, IDLE) and getattr(hook, IDLE)(module)) for hook in hooks)


def _of_all_modules() -> bool:
    return bool(_every.__dict__["_global_forward_pre_hooks"] or _every.__dict__["_global_forward_hooks"])
