"""A small autoencoder that stands in for a large one: previews and quick pictures at a hundredth of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import OptionError
from sfumato.models.convolution import Conv2d
from sfumato.models.network import NamedConfig, Network
from sfumato.models.vae import LatentDistribution

if TYPE_CHECKING:
    from jaxtyping import Float

LIMIT = 3.0
"""Latents are brought within ± this before they are decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyVAEConfig(NamedConfig):
    """Sizes of a tiny autoencoder; the defaults are TAESD's and TAESDXL's. Blocks have one entry per level, outermost first.

    Its latents are those that the U-Net sees: `scaling_factor` is 1. `sample_size` is the side of the pictures it is made for.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    scaling_factor: float = 1.0
    sample_size: int = 512

    field_names: ClassVar[Mapping[str, str]] = {}


class TinyBlock(nn.Module):
    """Three 3 × 3 convolutions with ReLU between them, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(width, width, 3, padding=1)
        self.conv2 = Conv2d(width, width, 3, padding=1)
        self.conv3 = Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Map x."""
        return F.relu(x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))


class TinyAutoencoder(Network):
    """An autoencoder without norms, attention or a spread of latents. Source: Boer Bohan, TAESD, github.com/madebyollin/taesd.

    Where an autoencoder is asked for, this one will do. It may lack its encoder, whose weights come in a file of their own.
    """

    def __init__(self, config: TinyVAEConfig, *, encoder: bool = True) -> None:
        super().__init__()
        self.config = config
        width = config.width

        layers: list[nn.Module] = [Conv2d(config.in_channels, width, 3, padding=1)]
        for level, blocks in enumerate(config.encoder_blocks):
            if level > 0:
                layers.append(Conv2d(width, width, 3, stride=2, padding=1, bias=False))
            layers += [TinyBlock(width) for _ in range(blocks)]
        self.encoder = nn.Sequential(*layers, Conv2d(width, config.latent_channels, 3, padding=1)) if encoder else None

        layers = [Conv2d(config.latent_channels, width, 3, padding=1), nn.ReLU()]
        for level, blocks in reversed(list(enumerate(config.decoder_blocks))):
            layers += [TinyBlock(width) for _ in range(blocks)]
            if level > 0:
                layers += [nn.Upsample(scale_factor=2), Conv2d(width, width, 3, padding=1, bias=False)]
        self.decoder = nn.Sequential(*layers, Conv2d(width, config.out_channels, 3, padding=1))
        self.use_tiling = False
        self.use_slicing = False

    @property
    def scale(self) -> int:
        """Pixels per latent, in height and in width."""
        return 2 ** (len(self.config.decoder_blocks) - 1)

    def encode(self, pixels: Float[Tensor, "b c H W"]) -> LatentDistribution:
        """The latents for pixels in [-1, 1], without a spread. Raises OptionError where the encoder is missing."""
        if self.encoder is None:
            raise OptionError("this tiny autoencoder was opened without its encoder; open both of its files")
        latents = self.encoder(pixels.add(1).div(2))
        return LatentDistribution(latents, torch.full_like(latents, -torch.inf))

    @overload
    def decode(self, latents: Float[Tensor, "b l h w"], *, return_dict: None = None) -> Float[Tensor, "b c H W"]: ...

    @overload
    def decode(self, latents: Float[Tensor, "b l h w"], *, return_dict: Literal[False]) -> tuple[Tensor]: ...

    def decode(
        self, latents: Float[Tensor, "b l h w"], *, return_dict: Literal[False] | None = None
    ) -> Tensor | tuple[Tensor]:
        """Pixels, about in [-1, 1], of latents; with `return_dict=False` in a tuple of one, as diffusers' gives them."""
        pixels = self.decode_whole(latents)
        return (pixels,) if return_dict is False else pixels

    def decode_whole(self, latents: Float[Tensor, "b l h w"]) -> Float[Tensor, "b c H W"]:
        """Decode latents. It needs little enough memory that there is nothing to tile."""
        return self.decoder(torch.tanh(latents / LIMIT) * LIMIT).mul(2).sub(1)

    decode_tiled = decode_whole
    encode_tiled = encode_whole = encode

    def enable_tiling(self) -> None:
        """Nothing to switch: see `decode_whole`."""

    def disable_tiling(self) -> None:
        """Nothing to switch."""

    def enable_slicing(self) -> None:
        """Nothing to switch."""

    def disable_slicing(self) -> None:
        """Nothing to switch."""
