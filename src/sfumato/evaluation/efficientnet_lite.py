"""EfficientNet-Lite0, the classifier whose features tell what a picture shows.

Sources: Tan & Le 2019, arXiv:1905.11946, table 1, for the stages; Sandler et al. 2018, arXiv:1801.04381, for the inverted bottleneck. The
Lite variant (its authors' repository, 2020) leaves out squeeze-and-excitation and replaces SiLU by ReLU6; widths of stem and head are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float

FEATURES = 1280
CLASSES = 1000
STEM = 32
NORM_EPS = 1e-3  # as it was trained, in TensorFlow


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Some blocks in a row; the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES: tuple[Stage, ...] = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, channels=320),
)


class NormedConv(nn.Module):
    """A convolution without bias, padded as TensorFlow's "SAME" pads, then batch norm.

    "SAME" gives ceil(size / stride) pixels, and an odd rest of padding goes right and below: with stride 2 this is not symmetric.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS)

    def _padding(self, size: int) -> tuple[int, int]:
        whole = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return whole // 2, whole - whole // 2

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Map x."""
        return self.norm(self.conv(F.pad(x, (*self._padding(x.shape[3]), *self._padding(x.shape[2])))))


class Bottleneck(nn.Module):
    """Widen, filter each channel by itself, narrow; added to the input where the shapes allow it. The narrow end has no activation."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = NormedConv(in_channels, wide, 1) if expansion > 1 else None
        self.depthwise = NormedConv(wide, wide, kernel, stride=stride, groups=wide)
        self.project = NormedConv(wide, out_channels, 1)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Map x."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Pictures → features, and features → the thousand classes of ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = NormedConv(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for stage in STAGES:
            for place in range(stage.blocks):
                self.blocks.append(
                    Bottleneck(
                        channels,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stage.stride if place == 0 else 1,
                        expansion=stage.expansion,
                    )
                )
                channels = stage.channels
        self.head = NormedConv(channels, FEATURES, 1)
        self.classes = nn.Linear(FEATURES, CLASSES)

    def features(self, pixels: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 1280"]:
        """Features of pixels in [-1, 1], averaged over the picture; none is negative."""
        x = F.relu6(self.stem(pixels))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x)).mean((2, 3))

    def forward(self, pixels: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 1000"]:
        """Logits of ImageNet's classes."""
        return self.classes(self.features(pixels))


# The published file's names → ours: the parts of a block, in the order in which it applies them.
_PARTS_OF_A_BLOCK = (
    ("_expand_conv", "expand.conv"),
    ("_bn0", "expand.norm"),
    ("_depthwise_conv", "depthwise.conv"),
    ("_bn1", "depthwise.norm"),
    ("_project_conv", "project.conv"),
    ("_bn2", "project.norm"),
)
_OTHER_PARTS = (
    ("_conv_stem", "stem.conv"),
    ("_bn0", "stem.norm"),
    ("_conv_head", "head.conv"),
    ("_bn1", "head.norm"),
    ("_fc", "classes"),
)


def rename(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the published file under this network's names. Raises KeyError for one that has no place here."""
    others, parts = dict(_OTHER_PARTS), dict(_PARTS_OF_A_BLOCK)
    renamed: dict[str, Tensor] = {}
    for name, tensor in published.items():
        layer, _, value = name.rpartition(".")
        if layer.startswith("_blocks."):
            _, place, part = layer.split(".")
            renamed[f"blocks.{place}.{parts[part]}.{value}"] = tensor
        else:
            renamed[f"{others[layer]}.{value}"] = tensor
    return renamed


def network_of(published: dict[str, Tensor]) -> EfficientNetLite0:
    """The network with the published weights, for inference. Raises RuntimeError or KeyError where they don't fit it exactly."""
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(rename(published), assign=True)
    return network.eval().requires_grad_(False)
