"""The network of the latent ×2 upscaler: a U-Net that is shown small latents beside the noisy ones, and told the time in every norm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import OptionError
from sfumato.models.attention import Attention
from sfumato.models.convolution import Conv2d
from sfumato.models.linear import Linear
from sfumato.models.network import NamedConfig, Network
from sfumato.models.unet import KeysValues, Told, given

if TYPE_CHECKING:
    from jaxtyping import Float

GROUP_WIDTH = 32
"""Channels of a group in every norm, however many groups that makes."""

NOISE_WIDTH = 128
"""Width in which the network is told how noisy the small latents are: cosines, then sines, of that level at frequencies of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentUpscalerConfig(NamedConfig):
    """Sizes of a latent upscaler's network; the defaults are the released one's. One of `channels` per level, outermost first.

    Every level but the outermost attends, in heads `head_width` channels wide. The two innermost are as wide as the time embedding,
    which is twice the outermost. It reads the noisy latents and the small ones, and writes latents and one channel that nobody reads.
    """

    in_channels: int = 8
    out_channels: int = 5
    channels: tuple[int, ...] = (384, 384, 768, 768)
    blocks_per_level: int = 4
    head_width: int = 64
    context_dim: int = 768
    sample_size: int = 128

    field_names: ClassVar[Mapping[str, str]] = {
        "block_out_channels": "channels",
        "layers_per_block": "blocks_per_level",
        "attention_head_dim": "head_width",
        "cross_attention_dim": "context_dim",
    }

    guidance_width: ClassVar[None] = None
    """It is told no guidance scale."""
    sizes_width: ClassVar[None] = None
    """Nor sizes of pictures."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that it writes, without the one that nobody reads: training's guess at its own error."""
        return self.out_channels - 1

    @property
    def time_width(self) -> int:
        """Width of the time embedding."""
        return 2 * self.channels[0]

    @property
    def told_width(self) -> int:
        """Width of what it is told beside the text: how noisy the small latents are, and a pooled text as wide as the context."""
        return NOISE_WIDTH + self.context_dim

    @property
    def heads(self) -> tuple[int, ...]:
        """Heads of attention by level."""
        return tuple(width // self.head_width for width in self.channels)


class LatentUpscaler(Network):
    """Answers for noisy latents, beside others of the same size that were enlarged from half of it: what training asked for.

    Down: at each level, blocks and then half the size, keeping one output a level. Up: the reverse; a level's first block reads what was
    kept. There is no middle: the innermost level attends to itself as well.
    Source: Crowson et al. 2022, k-diffusion, whose image model this is, after Karras et al. 2022, arXiv:2206.00364; the released weights
    are Stability AI's.
    """

    down: nn.ModuleList
    up: nn.ModuleList

    def __init__(self, config: LatentUpscalerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_slicing: int | None = None
        channels, last = config.channels, len(config.channels) - 1

        self.conv_in = Conv2d(config.in_channels, channels[0], 1)
        self.time_embedding = FourierTimeEmbedding(config.time_width)
        self.told_embedding = Linear(config.told_width, config.time_width, bias=False)

        self.down = nn.ModuleList()
        above = channels[0]
        for level, width in enumerate(channels):
            for _ in range(config.blocks_per_level):
                resnet = TimedResnet(above, width, width, config.time_width)
                self.down.append(Block(resnet, attention(config, width, level)))
                above = width
            if level < last:
                self.down.append(BlurDown())

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(channels))):
            for block in range(config.blocks_per_level):
                reads = width if block or level == last else 2 * width
                writes = channels[max(level - 1, 0)] if block == config.blocks_per_level - 1 else width
                resnet = TimedResnet(reads, width, writes, config.time_width)
                self.up.append(Block(resnet, attention(config, writes, level)))
            if level > 0:
                self.up.append(BlurUp())

        self.conv_out = Conv2d(channels[0], config.out_channels, 1)

    def keys_values(self, context: Float[Tensor, "b n k"], told: Told | None = None) -> KeysValues:
        """Keys and values of a text, and of its pooled vector: they depend on no x and no noise, so once per image is enough.

        The context is the text encoder's last layer as it is, without its final norm, which the pooled vector has. The small latents
        count as free of noise, as diffusers has them. Raises OptionError without a pooled text.
        """
        pooled = given("a pooled text", (told or Told()).pooled).to(context)
        # No noise is the angle 0 at every frequency: cosines of 1, sines of 0.
        clean = pooled.new_ones(NOISE_WIDTH // 2), pooled.new_zeros(NOISE_WIDTH // 2)
        before = self.told_embedding(torch.cat([torch.cat(clean).expand(len(pooled), -1), pooled], dim=-1))
        blocks = (module for module in self.modules() if isinstance(module, TimedAttention))
        return KeysValues(tuple(block.keys_values(context) for block in blocks), before=before)

    def forward(
        self, x: Float[Tensor, "b c h w"], log_sigmas: Tensor | float, text: KeysValues
    ) -> Float[Tensor, "b o h w"]:
        """Answer for latents, the noisy ones scaled to unit variance and the small ones enlarged, of `keys_values`' text.

        `log_sigmas` are log(sigma) / 4, one per row or one for all (Karras et al. 2022, Table 1, c_noise).
        Raises OptionError for a height or width that can't be halved at every level.
        """
        halvings = 2 ** (len(self.config.channels) - 1)
        height, width = x.shape[-2:]
        if height % halvings or width % halvings:
            raise OptionError(f"latents of {height} × {width} can't be enlarged; give multiples of {halvings}")
        keys_values = iter(text.layers)
        time = self.time_embedding(torch.as_tensor(log_sigmas, device=x.device).expand(len(x)), x.dtype, text.before)

        x = self.conv_in(x)
        kept: list[Tensor] = []  # the output of every level but the innermost
        for layer in self.down:
            if isinstance(layer, BlurDown):
                kept.append(x)
                x = layer(x)
            else:
                x = layer(x, time, keys_values)
        for layer in self.up:
            x = torch.cat([layer(x), kept.pop()], dim=1) if isinstance(layer, BlurUp) else layer(x, time, keys_values)
        return self.conv_out(x)

    def set_attention_slicing(self, heads: int | None) -> None:
        """Compute at most so many heads of an attention at a time (None: all): less memory, the same picture."""
        self.attention_slicing = heads
        for module in self.modules():
            if isinstance(module, Attention):
                module.slice_size = heads


def attention(config: LatentUpscalerConfig, width: int, level: int) -> TimedAttention | None:
    """The attention of one level of this network, if that attends."""
    return None if level == 0 else TimedAttention(width, config, to_itself=level == len(config.channels) - 1)


class FourierTimeEmbedding(nn.Module):
    """Noise levels → one vector each, activated. The frequencies are drawn at random before training, and stay as they are.

    Source: Tancik et al. 2020, arXiv:2006.10739, as Song et al. 2021, arXiv:2011.13456, use it for noise.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(width // 2), requires_grad=False)
        self.linear1 = Linear(width, width)
        self.linear2 = Linear(width, width)

    def forward(
        self, log_sigmas: Float[Tensor, " b"], dtype: torch.dtype, before: Float[Tensor, "b width"] | None
    ) -> Float[Tensor, "b width"]:
        """Embed log(sigma) / 4 in `dtype`; what else the network is told is added `before` the layers."""
        angles = 2 * math.pi * log_sigmas.float()[:, None] * self.frequencies.float()
        x = torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)
        x = x if before is None else x + before
        return F.gelu(self.linear2(F.gelu(self.linear1(x))))


class TimedNorm(nn.Module):
    """Group norm that the time embedding scales and shifts. Source: Dhariwal and Nichol 2021, arXiv:2105.05233, Eq. 3 (AdaGN)."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.groups = max(1, channels // GROUP_WIDTH)
        self.linear = Linear(time_width, 2 * channels)

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"]) -> Float[Tensor, "b c h w"]:
        """Norm x at a time."""
        scale, shift = self.linear(time)[:, :, None, None].chunk(2, dim=1)
        return F.group_norm(x, self.groups) * (1 + scale) + shift


class TimedResnet(nn.Module):
    """Two 3 × 3 convolutions, each of a normed and activated copy, added to their input."""

    def __init__(self, reads: int, inside: int, writes: int, time_width: int) -> None:
        super().__init__()
        self.norm1 = TimedNorm(reads, time_width)
        self.conv1 = Conv2d(reads, inside, 3, padding=1)
        self.norm2 = TimedNorm(inside, time_width)
        self.conv2 = Conv2d(inside, writes, 3, padding=1)
        self.shortcut = Conv2d(reads, writes, 1, bias=False) if reads != writes else None

    def forward(self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "b t"]) -> Float[Tensor, "b o h w"]:
        """Map x at a time."""
        y = self.conv1(F.gelu(self.norm1(x, time)))
        y = self.conv2(F.gelu(self.norm2(y, time)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class TimedAttention(nn.Module):
    """Attention over the positions of a feature map to a text, and before it, innermost, to one another; no feed-forward."""

    def __init__(self, channels: int, config: LatentUpscalerConfig, *, to_itself: bool) -> None:
        super().__init__()
        heads = channels // config.head_width
        self.norm1 = TimedNorm(channels, config.time_width) if to_itself else None
        self.self_attention = Attention(channels, heads, bias=True) if to_itself else None
        self.norm2 = TimedNorm(channels, config.time_width)
        self.norm_text = nn.LayerNorm(config.context_dim)
        self.cross_attention = Attention(channels, heads, config.context_dim, bias=True)

    def keys_values(self, context: Float[Tensor, "b n k"]) -> tuple[Tensor, Tensor]:
        """Keys and values of a text, ready for `forward`."""
        return self.cross_attention.keys_values(self.norm_text(context))

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"], keys_values: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "b c h w"]:
        """Map x at a time, towards a text."""
        if self.norm1 is not None and self.self_attention is not None:
            x = x + over_positions(self.self_attention, self.norm1(x, time), None)
        return x + over_positions(self.cross_attention, self.norm2(x, time), keys_values)


def over_positions(layer: Attention, x: Tensor, keys_values: tuple[Tensor, Tensor] | None) -> Tensor:
    """An attention's answer for each position of a feature map `b c h w`, as a map."""
    tokens = layer(x.flatten(2).transpose(1, 2), keys_values)
    return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])


class Block(nn.Module):
    """One resnet and, on the levels that attend, one attention."""

    def __init__(self, resnet: TimedResnet, attention: TimedAttention | None) -> None:
        super().__init__()
        self.resnet = resnet
        self.attention = attention

    def forward(self, x: Tensor, time: Tensor, keys_values: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """Map `b c h w` at a time, towards a text."""
        x = self.resnet(x, time)
        return x if self.attention is None else self.attention(x, time, next(keys_values))


class BlurDown(nn.Module):
    """Half the height and width, each channel blurred by itself. Source: Zhang 2019, arXiv:1904.11486, section 3.2."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h/2 w/2"]:
        """Map x."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), blur(x), stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Twice the height and width, by the transpose of `BlurDown`, so that sums stay what they are in means."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2h 2w"]:
        """Map x."""
        # A pixel becomes four, each of which sees a quarter of the kernel's weight.
        return F.conv_transpose2d(
            F.pad(x, (1, 1, 1, 1), "reflect"), 4 * blur(x), stride=2, padding=3, groups=x.shape[1]
        )


def blur(x: Tensor) -> Tensor:
    """The kernel that blurs each of x's channels before every other pixel is left out, `c 1 4 4`; its numbers are exact in float16."""
    line = x.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(line, line).expand(x.shape[1], 1, 4, 4)
