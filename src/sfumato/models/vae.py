"""The autoencoder between pixels and latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import OptionError
from sfumato.models.attention import attend
from sfumato.models.convolution import Conv2d
from sfumato.models.linear import Linear
from sfumato.models.network import NamedConfig, Network
from sfumato.models.resnet import Downsample, ResnetBlock, Upsample

if TYPE_CHECKING:
    from jaxtyping import Float

EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class VAEConfig(NamedConfig):
    """Sizes of an autoencoder; the defaults are Stable Diffusion 1's. `channels` has one entry per level, outermost first.

    `scaling_factor` brings latents to unit variance: latents times it are what the U-Net sees. `sample_size` is the height and
    width of the pixels it was trained on.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks_per_level: int = 2
    norm_groups: int = 32
    scaling_factor: float = 0.18215
    sample_size: int = 512

    field_names: ClassVar[Mapping[str, str]] = {
        "block_out_channels": "channels",
        "layers_per_block": "blocks_per_level",
        "norm_num_groups": "norm_groups",
    }


@dataclass(frozen=True, slots=True)
class LatentDistribution:
    """A Gaussian with a mean and a log variance for every latent: `b c h w` each."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents (unscaled) for the given unit noise."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def mode(self) -> Float[Tensor, "b c h w"]:
        """The likeliest latents (unscaled): the mean."""
        return self.mean


class PositionAttention(nn.Module):
    """Self-attention with one head over the positions of a feature map, added back to it."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels)
        self.to_v = Linear(channels, channels)
        self.to_out = Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Map x."""
        tokens = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        q, k, v = (project(tokens)[:, None] for project in (self.to_q, self.to_k, self.to_v))
        attended = self.to_out(attend(q, k, v)[:, 0])
        return x + attended.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """Pixels → mean and log variance of the latents, `scale` times smaller."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        self.conv_in = Conv2d(config.in_channels, channels[0], 3, padding=1)

        self.down = nn.ModuleList()
        above = channels[0]
        for level, width in enumerate(channels):
            for _ in range(config.blocks_per_level):
                self.down.append(ResnetBlock(above, width, norm_groups=groups, eps=EPS))
                above = width
            if level < len(channels) - 1:
                self.down.append(Downsample(width, asymmetric=True))

        self.middle = middle(config)
        self.norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c H W"]) -> Float[Tensor, "b 2*l h w"]:
        """Encode pixels in [-1, 1]."""
        x = self.conv_in(x)
        for layer in (*self.down, *self.middle):
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Latents → pixels, `scale` times larger."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        self.conv_in = Conv2d(config.latent_channels, channels[-1], 3, padding=1)
        self.middle = middle(config)

        self.up = nn.ModuleList()
        below = channels[-1]
        for level, width in reversed(list(enumerate(channels))):
            for _ in range(config.blocks_per_level + 1):
                self.up.append(ResnetBlock(below, width, norm_groups=groups, eps=EPS))
                below = width
            if level > 0:
                self.up.append(Upsample(width))

        self.norm_out = nn.GroupNorm(groups, channels[0], eps=EPS)
        self.conv_out = Conv2d(channels[0], config.out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b l h w"]) -> Float[Tensor, "b c H W"]:
        """Decode latents (unscaled)."""
        x = self.conv_in(x)
        for layer in (*self.middle, *self.up):
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def middle(config: VAEConfig) -> nn.ModuleList:
    """The layers at the smallest size, alike in the encoder and the decoder."""
    width, groups = config.channels[-1], config.norm_groups
    return nn.ModuleList(
        [
            ResnetBlock(width, width, norm_groups=groups, eps=EPS),
            PositionAttention(width, groups),
            ResnetBlock(width, width, norm_groups=groups, eps=EPS),
        ]
    )


class AutoencoderKL(Network):
    """The variational autoencoder that takes pixels to latents and back.

    Neither way multiplies by the scaling factor: whoever trains or samples does. Source: Rombach et al. 2022, arXiv:2112.10752,
    section 3.1 and appendix G.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)
        self.use_tiling = False
        self.use_slicing = False

    def enable_tiling(self) -> None:
        """Let `decode` work in tiles, as `decode_tiled` does by default."""
        self.use_tiling = True

    def disable_tiling(self) -> None:
        """Let `decode` decode pictures whole."""
        self.use_tiling = False

    def enable_slicing(self) -> None:
        """Let `decode` take the pictures of a batch one at a time: less memory, the same pictures."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Let `decode` take the pictures of a batch together."""
        self.use_slicing = False

    @property
    def scale(self) -> int:
        """Pixels per latent, in height and in width."""
        return 2 ** (len(self.config.channels) - 1)

    def encode(self, pixels: Float[Tensor, "b c H W"]) -> LatentDistribution:
        """The distribution of latents (unscaled) for pixels in [-1, 1]."""
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        # exp(20) is beyond what any latent means; the clamp keeps a bad start of a training run finite.
        return LatentDistribution(mean, logvar.clamp(-30.0, 20.0))

    @overload
    def decode(self, latents: Float[Tensor, "b l h w"], *, return_dict: None = None) -> Float[Tensor, "b c H W"]: ...

    @overload
    def decode(self, latents: Float[Tensor, "b l h w"], *, return_dict: Literal[False]) -> tuple[Tensor]: ...

    def decode(
        self, latents: Float[Tensor, "b l h w"], *, return_dict: Literal[False] | None = None
    ) -> Tensor | tuple[Tensor]:
        """Pixels, about in [-1, 1], of latents (unscaled); in tiles or one by one where that was switched on.

        With `return_dict=False`, in a tuple of one, as diffusers' gives them: `vae.decode(latents, return_dict=False)[0]`.
        """
        if return_dict is False:
            return (self.decode(latents),)
        if self.use_slicing and len(latents) > 1:
            return torch.cat([self.decode(row) for row in latents.split(1)])
        return self.decode_tiled(latents) if self.use_tiling else self.decode_whole(latents)

    def decode_whole(self, latents: Float[Tensor, "b l h w"]) -> Float[Tensor, "b c H W"]:
        """Decode latents (unscaled) without tiles or slices, whatever is switched on."""
        return self.decoder(self.post_quant_conv(latents))

    def forward(
        self, pixels: Float[Tensor, "b c H W"], noise: Float[Tensor, "b l h w"] | None = None
    ) -> tuple[Tensor, LatentDistribution]:
        """Encode, take the mode (or, given unit noise, a sample) and decode: what training compares with the pixels."""
        distribution = self.encode(pixels)
        latents = distribution.mode() if noise is None else distribution.sample(noise)
        return self.decode(latents), distribution

    def decode_tiled(
        self, latents: Float[Tensor, "b l h w"], tile: int | None = None, overlap: float = 0.25
    ) -> Float[Tensor, "b c H W"]:
        """Decode in square tiles of `tile` latents, each blended into its neighbours above and left over a fraction of its size.

        By default a tile is as large as the pictures of training.
        Memory stays that of one tile. The picture differs a little from `decode`'s, as each tile is normed by itself.
        Raises OptionError unless tile >= 1 and 0 <= overlap < 1.
        """
        tile = self.config.sample_size // self.scale if tile is None else tile
        stride = int(tile * (1 - overlap)) if 0 <= overlap < 1 else 0
        if tile < 1 or stride < 1:
            raise OptionError(
                f"tile {tile} with overlap {overlap} makes no tiles; give a tile of at least 1 and an overlap in [0, 1)"
            )
        if max(latents.shape[-2:]) <= tile:
            return self.decode_whole(latents)
        kept = stride * self.scale
        blend = (tile - stride) * self.scale

        rows: list[Tensor] = []
        above: list[Tensor] = []
        for top in range(0, latents.shape[-2], stride):
            row: list[Tensor] = []
            for column, left in enumerate(range(0, latents.shape[-1], stride)):
                pixels = self.decode_whole(latents[..., top : top + tile, left : left + tile])
                if above:
                    pixels = cross_fade(above[column], pixels, blend, dim=-2)
                if row:
                    pixels = cross_fade(row[-1], pixels, blend, dim=-1)
                row.append(pixels)
            rows.append(torch.cat([pixels[..., :kept, :kept] for pixels in row], dim=-1))
            above = row
        return torch.cat(rows, dim=-2)


def cross_fade(before: Tensor, after: Tensor, extent: int, dim: int) -> Tensor:
    """`after`, its first `extent` entries along a dimension faded in from the last ones of `before`."""
    extent = min(extent, before.shape[dim], after.shape[dim])
    if extent == 0:
        return after
    weight = torch.arange(extent, device=after.device, dtype=after.dtype) / extent
    weight = weight[:, None] if dim == -2 else weight
    start = after.narrow(dim, 0, extent)
    faded = before.narrow(dim, before.shape[dim] - extent, extent) * (1 - weight) + start * weight
    return torch.cat([faded, after.narrow(dim, extent, after.shape[dim] - extent)], dim=dim)
