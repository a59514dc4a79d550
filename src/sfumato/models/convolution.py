"""Convolutions that can wrap: beyond one side of a map lies the other, so that the picture can be laid beside itself without a seam.

Whether they do is not the layer's business but the evaluation's: it is looked up in a variable of the running thread, so that two threads
can evaluate one network differently, and a network by itself pads with zeros, as it was trained.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import UnsupportedError
from sfumato.models.int8 import Int8
from sfumato.models.kernels import convolution

if TYPE_CHECKING:
    from jaxtyping import Float

    from sfumato.models.packing import Packed

Axes: TypeAlias = frozenset[int]
"""The dimensions of a map that wrap: -1, from left to right, and -2, from top to bottom."""

NOWHERE: Axes = frozenset()

Sides: TypeAlias = tuple[int, int, int, int]
"""Positions to add at left, right, top and bottom."""

_wrapping: ContextVar[Axes] = ContextVar("wrapping", default=NOWHERE)


@contextmanager
def wrapping(axes: Axes, *networks: nn.Module) -> Generator[None]:
    """Inside the block, convolutions that this thread evaluates wrap along these axes, and along no others.

    Raises UnsupportedError for a network that is compiled, and was so without wrapping.
    """
    if axes and any(hasattr(network, "_orig_mod") for network in networks):
        raise UnsupportedError(
            "a compiled network can't draw seamless pictures; put it back, such as pipe.unet = pipe.unet._orig_mod"
        )
    token = _wrapping.set(axes)
    try:
        yield
    finally:
        _wrapping.reset(token)


def wrapped_axes() -> Axes:
    """The axes along which convolutions wrap here and now."""
    # The compiler can't look into variables of a thread; `wrapping` refuses what it has compiled.
    return NOWHERE if torch.compiler.is_compiling() else _wrapping.get()


class Conv2d(nn.Conv2d):
    """A two-dimensional convolution that pads with zeros, or, inside `wrapping`, with what is at the other side.

    It computes in int8 where it was told how, and with packed weights where it has them.
    """

    int8: Int8 | None = None
    packed: Packed | None = None

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o H W"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map x."""
        if not wrapped_axes():
            if self.int8 is not None:
                return self.int8.convolution(self, x)
            if self.packed is not None and (answer := self.packed.convolution(self, x)) is not None:
                return answer
        return convolved(self, x, self.weight, self.bias)


def convolved(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the layer would give for x with this weight and bias, wrapped where convolutions wrap."""
    axes = wrapped_axes()
    down, across = (int(padding) for padding in layer.padding)
    if not axes:
        return convolution(x, weight, bias, layer.stride, (down, across), layer.dilation, layer.groups)
    x = _around(x, (across, across, down, down), axes)
    rest = (0 if -2 in axes else down, 0 if -1 in axes else across)
    return convolution(x, weight, bias, layer.stride, rest, layer.dilation, layer.groups)


def padded(x: Float[Tensor, "b c h w"], sides: Sides) -> Float[Tensor, "b c H W"]:
    """The map with zeros around it, or, where convolutions wrap, with what is at the other side."""
    axes = wrapped_axes()
    if not axes:
        return F.pad(x, sides)
    return F.pad(_around(x, sides, axes), _along(sides, frozenset({-1, -2}) - axes))


def _around(x: Tensor, sides: Sides, axes: Axes) -> Tensor:
    """The map with what is at its other side, along these axes alone."""
    along = _along(sides, axes)
    return F.pad(x, along, mode="circular") if any(along) else x


def _along(sides: Sides, axes: Axes) -> Sides:
    """The sides that lie along these axes; 0 at the others."""
    left, right, top, bottom = sides
    across, down = -1 in axes, -2 in axes
    return left * across, right * across, top * down, bottom * down
