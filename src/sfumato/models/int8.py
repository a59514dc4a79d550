"""Layers computed in int8 on a CPU: weights and activations in one byte each, products in whole numbers, by oneDNN's kernels in PyTorch.

A number x becomes a whole number q with x ≈ scale · (q - zero). Weights are symmetric (zero is 0), with a scale for each output channel;
activations have one scale and one zero for the map. Sums of products are exact in int32, so threads and their order change no bit.
Source: Jacob et al. 2018, arXiv:1712.05877, section 2; a scale for each channel: Krishnamoorthi 2018, arXiv:1806.08342, section 2.2.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.errors import NumericalError, UnsupportedError
from sfumato.models.weight_state import WeightState
from sfumato.native import NO_NUMBER
from sfumato.pages import Leaving

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from jaxtyping import Int8 as Bytes

LEVELS = 255
"""Steps between the least and the greatest number that an activation can be."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How activations become bytes: x ≈ scale · (q - zero), with q from 0 to 255."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Scale:
        """The finest that reaches from `low` to `high`, and has 0 among its numbers: zeros around a map stay zeros."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / LEVELS or 1.0
        return cls(scale, min(max(round(-low / scale), 0), LEVELS))


class Int8:
    """What a layer that is computed in int8 has beside its weights: the scale of its input, and its weights packed for the kernel.

    Without a scale it is taken from each input anew. What goes in may also be the bytes by that scale already. The packed weights are made
    when they are first needed, and again once the layer has other weights or these were written to; a copy of a layer has none at first. Pages of
    the file that the weights came from are then `leaving`, which layers may share.
    """

    def __init__(self, scale: Scale | None = None, leaving: Leaving | None = None) -> None:
        self.scale = scale
        self.leaving = leaving or Leaving()
        self._packed: tuple[WeightState, Tensor, Tensor, Tensor, Tensor | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"scale": self.scale, "leaving": Leaving(), "_packed": None}

    def linear(self, layer: nn.Linear | nn.Conv2d, x: Tensor) -> Float[Tensor, "*b o"]:
        """A linear layer's answer, or that of a convolution which is one, to `*b i`. Raises UnsupportedError where int8 can't be computed."""
        scale = self._scale_of(x)
        packed, scales, zeros, bias = self._weights(layer)
        return torch.ops.onednn.qlinear_pointwise(
            quantised(x, scale), scale.scale, scale.zero, packed, scales, zeros, bias, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip

    def convolution(self, layer: nn.Conv2d, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o H W"]:
        """A convolution's answer, channels last where x is, or it is of 1 × 1. Raises UnsupportedError where int8 can't be computed."""
        if is_linear(layer):
            x = quantised(x, self._scale_of(x)) if self.scale is not None else x
            return self.linear(layer, x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        scale = self._scale_of(x)
        packed, scales, zeros, bias = self._weights(layer)
        return torch.ops.onednn.qconv2d_pointwise(
            quantised(x, scale), scale.scale, scale.zero, packed, scales, zeros, bias,
            layer.stride, layer.padding, layer.dilation, layer.groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip

    def _scale_of(self, x: Tensor) -> Scale:
        if x.dtype == torch.uint8 and self.scale is not None:
            return self.scale
        if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
            where = (
                "compiled" if torch.compiler.is_compiling() else f"{x.dtype} on {x.device.type}".removeprefix("torch.")
            )
            raise UnsupportedError(
                f"int8 layers take float32 on a CPU, uncompiled, and here it is {where}; call pipe.dequantize() before that"
            )
        if self.scale is not None:
            # A sum is cheap beside rounding, which would make a number of what is none.
            if not math.isfinite(float(x.sum())) and not bool(torch.isfinite(x).all()):
                raise NumericalError(NO_NUMBER)
            return self.scale
        low, high = (float(bound) for bound in torch.aminmax(x))
        if not math.isfinite(high - low):
            raise NumericalError(NO_NUMBER)
        return Scale.of(low, high)

    def _weights(self, layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The layer's weights packed, their scales and zeros, and the bias; made anew where the weights are others than they were."""
        if self._packed is None or not self._packed[0].still(layer):
            bias = None if layer.bias is None else layer.bias.detach().float()
            self._packed = (WeightState.of(layer), *packed_weights(layer), bias)
            stored = layer._parameters["weight"]
            assert stored is not None, "such layers have a weight"
            self.leaving.add(stored)
        return self._packed[1:]


@torch.no_grad()
def packed_weights(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's weights in int8 as the kernel wants them, with a scale and a zero for each output channel.

    Raises NumericalError for weights that are no numbers, which would become some.
    """
    weight = layer.weight.float()
    if not bool(torch.isfinite(weight).all()):
        raise NumericalError(
            "weights that are NaN or infinite have no place in int8; they are damaged, open the model again"
        )
    whole, scales = quantised_weights(weight)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    if is_linear(layer):
        return torch.ops.onednn.qlinear_prepack(whole.flatten(1).contiguous(), None), scales, zeros
    # The scale and the shape of the input only choose a layout; any other input is answered as well by it.
    shape = [1, layer.in_channels, 64, 64]
    packed = torch.ops.onednn.qconv_prepack(
        whole, scales, 1.0, 128, layer.stride, layer.padding, layer.dilation, layer.groups, shape
    )
    return packed, scales, zeros


def is_linear(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer maps each position by itself; oneDNN's convolution takes five times as long for that on small maps."""
    return isinstance(layer, nn.Linear) or (
        layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
    )


def quantised_weights(weight: Float[Tensor, "o i *k"]) -> tuple[Bytes[Tensor, "o i *k"], Float[Tensor, " o"]]:
    """Weights as whole numbers from -127 to 127, and the scale of each output channel."""
    greatest = weight.flatten(1).abs().amax(1)
    scales = torch.where(greatest > 0, greatest / 127, torch.ones_like(greatest))
    whole = (weight / scales.view(-1, *[1] * (weight.ndim - 1))).round_()
    return whole.to(torch.int8), scales


def quantised(x: Float[Tensor, "*b"] | UInt8[Tensor, "*b"], scale: Scale) -> UInt8[Tensor, "*b"]:
    """Activations as bytes, unless they are already; what is beyond the scale's reach becomes the nearest that is not."""
    if x.dtype == torch.uint8:
        return x
    _warned()
    made = torch.quantize_per_tensor(x, scale.scale, scale.zero, torch.quint8)
    # Its bytes as they lie: `int_repr` would copy them, on one core.
    return torch.empty(0, dtype=torch.uint8).set_(made.untyped_storage(), 0, made.shape, made.stride())


@cache
def _warned() -> None:
    """Let PyTorch say, once and unheard, that tensors which carry their scale are deprecated: no other call of it rounds in one pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"torch\.quantize_per_tensor", category=UserWarning)
        torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)


@cache
def missing() -> str | None:
    """What int8 needs and this machine, or this build of PyTorch, has not; None where nothing is missing."""
    if not torch.backends.mkldnn.is_available():
        return "a PyTorch that is built with oneDNN"
    if not all(hasattr(torch.ops.onednn, name) for name in ("qconv_prepack", "qconv2d_pointwise", "qlinear_pointwise")):
        return "PyTorch's kernels for int8 (onednn.qconv2d_pointwise), which came with 2.7"
    # Older instructions add pairs of products in 16 bits, which overflow.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512") or not torch.cpu._is_vnni_supported():
        return "a processor with AVX-512 VNNI"
    return None


def check_supported() -> None:
    """Raise UnsupportedError, with what is missing, where int8 can't be computed."""
    if (what := missing()) is not None:
        raise UnsupportedError(f"int8 needs {what}; leave it out, and pictures are drawn in float32")
