"""The autoencoder between pixels and latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from sfumato.models.vae_tiles import in_tiles, joined

if TYPE_CHECKING:
    from jaxtyping import Float

EPS = 1e-6

SCORES = 1 << 28
"""How many numbers attention over positions weighs at once, where PyTorch has no kernel that keeps none of them: latents of 128 × 128."""


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
        """Map x, with at most `SCORES` of queries by keys at a time."""
        tokens = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        q, k, v = (project(tokens)[:, None] for project in (self.to_q, self.to_k, self.to_v))
        queries = max(1, SCORES // k.shape[2])
        attended = self.to_out(torch.cat([attend(some, k, v) for some in q.split(queries, dim=2)], dim=2)[:, 0])
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
        """Let `decode` and `encode` work in tiles, as `decode_tiled` and `encode_tiled` do by default."""
        self.use_tiling = True

    def disable_tiling(self) -> None:
        """Let `decode` and `encode` take pictures whole."""
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
        """The distribution of latents (unscaled) for pixels in [-1, 1]; in tiles where that was switched on."""
        return self.encode_tiled(pixels) if self.use_tiling else self.encode_whole(pixels)

    def encode_whole(self, pixels: Float[Tensor, "b c H W"]) -> LatentDistribution:
        """Encode pixels without tiles, whatever is switched on."""
        return self._distribution(self.encoder(pixels))

    def _distribution(self, encoded: Float[Tensor, "b 2*l h w"]) -> LatentDistribution:
        mean, logvar = self.quant_conv(encoded).chunk(2, dim=1)
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

    def decode_tiled(self, latents: Float[Tensor, "b l h w"], tile: int | None = None) -> Float[Tensor, "b c H W"]:
        """What `decode_whole` gives, but for the last bits, in tiles of `tile` by `tile` latents: less memory, and half as long again.

        By default pictures larger than those of training are tiled, in tiles half as high and wide. Raises OptionError unless tile >= 1.
        """
        edge = self._edge(latents.shape[-2:], tile)
        if edge is None:
            return self.decode_whole(latents)
        decoder = self.decoder
        x = decoder.conv_in(self.post_quant_conv(latents))
        for layer in decoder.middle:
            x = layer(x)
        stages = [*joined(list(decoder.up)), [decoder.norm_out, nn.SiLU(), decoder.conv_out]]
        return in_tiles(stages, x, edge, self._least(latents.shape[-2] * latents.shape[-1]))

    def encode_tiled(self, pixels: Float[Tensor, "b c H W"], tile: int | None = None) -> LatentDistribution:
        """What `encode_whole` gives, but for the last bits, in tiles, as `decode_tiled`. Raises OptionError unless tile >= 1."""
        height, width = (side // self.scale for side in pixels.shape[-2:])
        edge = self._edge((height, width), tile)
        if edge is None:
            return self.encode_whole(pixels)
        encoder = self.encoder
        stages = [[layer] for layer in (encoder.conv_in, *encoder.down)]
        x = in_tiles(stages, pixels, edge * self.scale, self._least(height * width))
        for layer in (*encoder.middle, encoder.norm_out, nn.SiLU(), encoder.conv_out):
            x = layer(x)
        return self._distribution(x)

    def _edge(self, size: Sequence[int], tile: int | None) -> int | None:
        """Latents along the edge of a tile for latents of a size; None where they are not tiled."""
        usual = self.config.sample_size // self.scale
        if tile is None:
            return max(usual // 2, 1) if max(size) > usual else None
        if tile < 1:
            raise OptionError(f"a tile of {tile} latents makes no picture; give a tile of at least 1")
        return tile if max(size) > tile else None

    def _least(self, latents: int) -> int:
        """Maps of so many numbers are not worth a tile: the largest that are held whole have four times as many."""
        return self.config.channels[0] * latents * self.scale**2 // 4
