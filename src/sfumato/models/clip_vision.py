"""CLIP's image encoder: pixels in, one vector out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sfumato.errors import SizeError
from sfumato.models.clip_transformer import Activation, CLIPLayer
from sfumato.models.convolution import Conv2d

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class CLIPVisionConfig:
    """Sizes of an image encoder; the defaults are those of CLIP ViT-L/14, which Stable Diffusion's safety checker looks through."""

    in_channels: int = 3
    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5


class CLIPVisionEncoder(nn.Module):
    """A transformer over the patches of a picture and one token of its own. Source: Dosovitskiy et al. 2020, arXiv:2010.11929, Eq. 1–4."""

    layers: nn.ModuleList

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = Conv2d(
            config.in_channels, config.width, config.patch_size, stride=config.patch_size, bias=False
        )
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.position_embedding = nn.Embedding(1 + patches, config.width)
        self.norm_in = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.layers = nn.ModuleList(
            CLIPLayer(
                width=config.width,
                heads=config.heads,
                mlp_width=config.mlp_width,
                activation=config.activation,
                causal=False,
                eps=config.norm_eps,
            )
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, pixels: Float[Tensor, "b c size size"]) -> Float[Tensor, "b width"]:
        """Encode pixels normalised as CLIP's preprocessing does (mean and deviation of its training set, not [-1, 1]).

        Raises SizeError unless they are `image_size` high and wide.
        """
        size = self.config.image_size
        if pixels.shape[-2:] != (size, size):
            raise SizeError(
                f"the picture is {pixels.shape[-1]} × {pixels.shape[-2]} pixels; this image encoder reads {size} × {size}, so resize it first"
            )
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        x = self.norm_in(x + self.position_embedding.weight)
        for layer in self.layers:
            x = layer(x)
        return self.norm_out(x[:, 0])
