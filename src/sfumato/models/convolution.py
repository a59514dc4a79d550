"""The convolution layer of all networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sfumato.models.int8 import Int8
from sfumato.models.kernels import convolution

if TYPE_CHECKING:
    from jaxtyping import Float


class Conv2d(nn.Conv2d):
    """A two-dimensional convolution, by `kernels.convolution`, or in int8."""

    int8: Int8 | None = None

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o H W"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map x."""
        if self.int8 is not None:
            return self.int8.convolution(self, x)
        padding = tuple(int(side) for side in self.padding)
        return convolution(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
