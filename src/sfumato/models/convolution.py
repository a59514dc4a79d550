"""The convolution layer of all networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sfumato.models.kernels import convolution

if TYPE_CHECKING:
    from jaxtyping import Float


class Conv2d(nn.Conv2d):
    """A two-dimensional convolution, by `kernels.convolution`."""

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o H W"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map x."""
        padding = tuple(int(side) for side in self.padding)
        return convolution(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
