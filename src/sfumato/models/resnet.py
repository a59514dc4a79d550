"""The convolutional layers that the U-Net and the autoencoder share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.ahead import group_normed
from sfumato.models.convolution import Conv2d, padded
from sfumato.models.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float

Layer = TypeVar("Layer", bound=nn.Module)


class ResnetBlock(nn.Module):
    """Two normed 3 × 3 convolutions added to their input; a time embedding, if any, is added between them.

    A block with a time embedding, the U-Net's, at first adds nothing to its input.
    Source: Ho et al. 2020, arXiv:2006.11239, appendix B; the shape is Wide ResNet's, with group norm and SiLU.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, time_width: int | None = None, norm_groups: int, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels, eps=eps)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_proj = Linear(time_width, out_channels) if time_width is not None else None
        self.norm2 = nn.GroupNorm(norm_groups, out_channels, eps=eps)
        conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv2 = conv2 if time_width is None else zeroed(conv2)
        self.shortcut = Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(
        self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        """Map x; `time` is the activated time embedding, for blocks made with a `time_width`."""
        y = self.conv1(group_normed(self.norm1, x, self.conv1))
        shift = None if self.time_proj is None else self.time_proj(time)
        y = group_normed(
            self.norm2, y, self.conv2, shift=shift
        )  # what it was made of is let go of before the next needs room
        return added(self.conv2(y), x if self.shortcut is None else self.shortcut(x))


class Downsample(nn.Module):
    """Half the height and width, by a convolution of stride 2.

    The U-Net pads all sides by one; the autoencoder (`asymmetric`) pads only the right and the bottom.
    """

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h/2 w/2"]:
        """Map x; the U-Net's rounds an odd size up, the autoencoder's down."""
        return self.conv(padded(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement, to twice the size unless one is given, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], size: torch.Size | None = None) -> Float[Tensor, "b c H W"]:
        """Enlarge x; `size` (height, width) undoes a `Downsample` of an odd size."""
        height, width = size if size is not None else (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=(height, width), mode="nearest"))


def added(made: Tensor, other: Tensor) -> Tensor:
    """made + other, written over `made`, which nobody else has, unless a gradient is wanted."""
    return made.add(other) if torch.is_grad_enabled() else made.add_(other)


def zeroed(layer: Layer) -> Layer:
    """The layer with every parameter set to zero: how the last layer of a residual branch, and of the U-Net, starts.

    Source: Ho et al. 2020, arXiv:2006.11239, in their code; Dhariwal and Nichol 2021, arXiv:2105.05233.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
