"""Weights laid out once, as oneDNN's kernels read them, for layers whose weights are widened at each evaluation otherwise.

To widen a layer's float16 weights and to lay them out anew takes longer than to compute with them, where maps are small. It is done at a
layer's first evaluation on a small map and kept, as long as an allowance lasts; what they have in the file need then not be in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.allocator import apart
from sfumato.models import kernels
from sfumato.models.convolution import Conv2d
from sfumato.models.linear import Linear
from sfumato.models.weight_state import WeightState
from sfumato.pages import Leaving, forget_pages

if TYPE_CHECKING:
    from jaxtyping import Float

    from sfumato.models.unet import UNet

SMALL_MAP = 256
"""Positions, of all rows together, up to which a layer's weights are packed: with more, the time that this saves is little."""

OFTEN = 3
"""Evaluations in a row on maps of another shape after which a convolution's weights are laid out for that."""


class Allowance:
    """How many bytes packed weights may take in all, and those whose pages in the file are still in memory."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.leaving = Leaving()

    def takes(self, size: int) -> bool:
        """Whether there is room for so many bytes, which are then taken."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Packed:
    """What a layer has beside its weights: these, packed, from its first evaluation on, unless the allowance is spent by then.

    They are packed anew where the weights are others than they were, and a convolution's, whose layout is made for maps of one shape, where
    another shape has come `OFTEN` times in a row; until then they are not used for it. Where PyTorch's own arithmetic is asked for (`kernels.is_plain`) they
    are not used. Answers are those that the unpacked weights give. A copy of a layer shares the allowance.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._kept: tuple[WeightState, Tensor] | None = None
        self._shape: torch.Size | None = None
        self._others = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return Packed(self.allowance)

    def linear(self, layer: nn.Linear | nn.Conv2d, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"] | None:
        """The answer of a linear layer, or of a convolution of 1 × 1 that is one; None where it is not packed."""
        if kernels.is_plain(x) or (weight := self._weight(layer, x)) is None:
            return None
        return torch.ops.mkldnn._linear_pointwise(x, weight, layer.bias, "none", [], "")

    def convolution(self, layer: nn.Conv2d, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o H W"] | None:
        """The answer of a convolution that pads with zeros, or None where it is not packed, or Winograd's answers sooner."""
        if kernels.is_plain(x) or not x.is_contiguous(memory_format=torch.channels_last):
            return None
        around: Any = layer.stride, layer.padding, layer.dilation, layer.groups
        match kernels.algorithm(x, layer.out_channels, layer.kernel_size, *around):
            case "linear":
                made = self.linear(layer, x.permute(0, 2, 3, 1))
                return None if made is None else made.permute(0, 3, 1, 2)
            # For one row alone oneDNN takes another kernel, and its last bits are others.
            case "direct" if len(x) > 1 and self._is_for(x.shape) and (weight := self._weight(layer, x)) is not None:
                return torch.ops.mkldnn._convolution_pointwise(
                    x, weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups, "none", [], ""
                )
            case _:
                return None

    def _is_for(self, shape: torch.Size) -> bool:
        """Whether a convolution's weights are, or may now be, laid out for maps of this shape."""
        if self._kept is None or self._shape == shape:
            self._shape, self._others = shape, 0
            return True
        self._others += 1
        if self._others == OFTEN:
            self.drop()
            self._shape, self._others = shape, 0
        return self._kept is None

    def drop(self) -> None:
        """Let go of the packed weights, and give their part of the allowance back."""
        if self._kept is not None:
            self.allowance.left += self._kept[1].numel() * 4
            self._kept = None

    def _weight(self, layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor | None:
        """The layer's weights packed, for inputs as large as x, though others are answered too; None where the allowance does not reach."""
        stored = layer._parameters["weight"]
        assert stored is not None, "such layers have a weight"
        if self._kept is not None and self._kept[0].still(layer):
            return self._kept[1]
        if self._kept is None and (x.numel() // stored.shape[1] > SMALL_MAP or stored.numel() < kernels.SMALL):
            return None
        if stored.device.type != "cpu":
            return None
        if self._kept is None and not self.allowance.takes(4 * stored.numel()):
            return None
        with torch.no_grad(), apart():
            packed = _packed(layer, stored.to(torch.float32, memory_format=torch.contiguous_format), x)
        self._kept = WeightState.of(layer), packed
        self.allowance.leaving.add(stored)
        return packed


def _packed(layer: nn.Linear | nn.Conv2d, weight: Tensor, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear) or weight.shape[2:] == (1, 1):
        return torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1), x.numel() // weight.shape[1])
    return torch._C._nn.mkldnn_reorder_conv2d_weight(  # pyright: ignore[reportAttributeAccessIssue]
        weight.to_mkldnn(), layer.padding, layer.stride, layer.dilation, layer.groups, x.shape
    )


def pack(unet: UNet, size: int) -> None:
    """Let a U-Net's layers keep their weights packed, as they are evaluated, in up to so many bytes.

    Keys and values of a text are computed once for a picture, and their weights are left as they are.
    """
    allowance = Allowance(size)
    rare = {layer for attention in unet.cross_attentions() for layer in (attention.to_k, attention.to_v)}
    for layer in unet.modules():
        if isinstance(layer, Linear | Conv2d) and layer not in rare:
            layer.packed = Packed(allowance)


def allowance_of(network: nn.Module) -> int:
    """Bytes that a network's packed weights may yet take."""
    packed = (layer.packed for layer in network.modules() if isinstance(layer, Linear | Conv2d))
    return next((each.allowance.left for each in packed if each is not None), 0)


def forget_stored(network: nn.Module) -> None:
    """Give back the pages of a network's weights in the file, which are read again when it is evaluated next."""
    forget_pages([weight.detach() for weight in network.parameters() if weight.device.type == "cpu"])


@contextmanager
def unpacked(network: nn.Module) -> Generator[None]:
    """Inside the block, a network packs no weights and uses none, in whatever thread: for evaluations too few to pay for it."""
    packed = {layer: layer.packed for layer in network.modules() if isinstance(layer, Linear | Conv2d)}
    try:
        for layer in packed:
            layer.packed = None
        yield
    finally:
        for layer, each in packed.items():
            layer.packed = each


def drop_packed(network: nn.Module) -> None:
    """Let go of packed weights: they are packed again where they are needed."""
    for layer in network.modules():
        if isinstance(layer, Linear | Conv2d) and layer.packed is not None:
            layer.packed.drop()
