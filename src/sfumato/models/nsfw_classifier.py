"""A small classifier that tells what kind of picture it sees, of five kinds, three of them unsafe for work.

Sources: Sandler et al. 2018, arXiv:1801.04381 (MobileNetV2), table 2, for the stages and figure 4 for the block; Laborde, nsfw_model (2020),
for the three layers above it. Batch norm is folded into the convolutions: it is not trained here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.convolution import Conv2d
from sfumato.models.linear import Linear
from sfumato.models.network import Network

if TYPE_CHECKING:
    from jaxtyping import Float

SIDE = 224
"""Height and width of the pixels it was trained on."""
KINDS = ("drawing", "hentai", "neutral", "porn", "sexy")
UNSAFE = ("hentai", "porn", "sexy")
STEM, HEAD = 32, 1280
DENSE = (256, 128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Some blocks in a row; the first has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(expansion=1, channels=16, blocks=1, stride=1),
    Stage(expansion=6, channels=24, blocks=2, stride=2),
    Stage(expansion=6, channels=32, blocks=3, stride=2),
    Stage(expansion=6, channels=64, blocks=4, stride=2),
    Stage(expansion=6, channels=96, blocks=3, stride=1),
    Stage(expansion=6, channels=160, blocks=3, stride=2),
    Stage(expansion=6, channels=320, blocks=1, stride=1),
)


class Bottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; added to its input where the shapes allow it. The narrow end has no activation."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = Conv2d(in_channels, wide, 1) if expansion > 1 else None
        self.depthwise = Conv2d(wide, wide, 3, stride=stride, padding=1 if stride == 1 else 0, groups=wide)
        self.project = Conv2d(wide, out_channels, 1)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Map x, whose sides are even where the stride is 2."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = y if self.depthwise.stride == (1, 1) else pad_below_right(y)
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class NSFWClassifier(Network):
    """How likely a picture is of each of the five KINDS."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2d(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for stage in STAGES:
            for place in range(stage.blocks):
                stride = stage.stride if place == 0 else 1
                self.blocks.append(Bottleneck(channels, stage.channels, expansion=stage.expansion, stride=stride))
                channels = stage.channels
        self.head = Conv2d(channels, HEAD, 1)
        widths = (HEAD, *DENSE, len(KINDS))
        self.dense = nn.ModuleList(Linear(i, o) for i, o in pairwise(widths))

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 5"]:
        """Probabilities of KINDS, in their order, of pixels in [0, 1]."""
        x = F.relu6(self.stem(pad_below_right(pixels)))
        for block in self.blocks:
            x = block(x)
        x = F.relu6(self.head(x)).mean((2, 3))
        *hidden, last = self.dense
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x).softmax(dim=1)


def pad_below_right(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """One row and one column of zeros more: what TensorFlow's "SAME" adds for a kernel of 3 and a stride of 2 on even sides."""
    return F.pad(x, (0, 1, 0, 1))
