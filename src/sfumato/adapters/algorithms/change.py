"""What an adapter does to one layer, however it is written down."""

from collections.abc import Sequence
from dataclasses import fields, replace
from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.convolution import convolved

Layer = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm | nn.Embedding


class Change:
    """A change of a layer's weight, bias or both; at weight w, w times it is added. Subclasses are frozen dataclasses of tensors.

    Every algorithm says what it adds as a whole (`weight_delta`, for merging), and what that adds to the layer's output (`side`,
    for evaluating beside the layer); one that can do the latter without forming the former does.
    """

    algorithm: ClassVar[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of weight that it is made for; kernels may be folded into the second dimension."""
        raise NotImplementedError

    def weight_delta(self, weight: Tensor) -> Tensor | None:
        """What is added to the layer's weight, in that weight's shape; None if nothing is."""
        raise NotImplementedError

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """What is added to the layer's bias, which may be None; None if nothing is."""
        del bias
        return None

    def side(self, layer: Layer, x: Tensor) -> Tensor:
        """What is added to the layer's output for its input x."""
        delta, shift = self.weight_delta(layer.weight), self.bias_delta(bias_of(layer))
        if delta is not None:
            return applied(layer, x, delta, shift)
        assert shift is not None, "a change changes something"
        of_map = isinstance(layer, nn.Conv2d | nn.GroupNorm)
        return shift[:, None, None] if of_map and x.ndim == 4 else shift

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a layer's weight has the shape that it is made for; a 1 × 1 convolution is a linear layer here."""
        return self.shape[0] == shape[0] and prod(self.shape[1:]) == prod(shape[1:])

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same in another place and precision."""
        moved: dict[str, Any] = {}
        for field in fields(self):  # pyright: ignore[reportArgumentType] (every subclass is a dataclass)
            value = getattr(self, field.name)
            if isinstance(value, Tensor | Change):
                moved[field.name] = value.to(device, dtype)
        return replace(self, **moved)  # pyright: ignore[reportType, reportArgumentType, reportReturnType]


def bias_of(layer: Layer) -> Tensor | None:
    """The layer's bias, if it has one."""
    return None if isinstance(layer, nn.Embedding) else layer.bias


def applied(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the layer would give for x with this weight and bias."""
    match layer:
        case nn.Linear():
            return F.linear(x, weight, bias)
        case nn.Conv2d():
            return convolved(layer, x, weight, bias)
        case nn.GroupNorm():
            return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
        case nn.LayerNorm():
            return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
        case nn.Embedding():
            return F.embedding(x, weight)
