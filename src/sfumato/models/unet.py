"""The denoising network: a U-Net that attends to the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import ConfigError
from sfumato.models.attention import Attention, SpatialTransformer, TransformerBlock
from sfumato.models.network import NamedConfig, Network
from sfumato.models.resnet import Downsample, ResnetBlock, Upsample, zeroed
from sfumato.models.time_embedding import TimeEmbedding

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig(NamedConfig):
    """Sizes of a U-Net; the defaults are Stable Diffusion 1's. One entry per level, outermost (largest) first.

    `attention` says which levels attend (the middle always does), `heads` into how many heads, `depth` how many transformer blocks.
    `sample_size` is the height and width of the latents it was trained on. Raises ConfigError if the levels disagree in number.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks_per_level: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    depth: tuple[int, ...] = (1, 1, 1, 1)
    context_dim: int = 768
    linear_projection: bool = False
    norm_groups: int = 32
    norm_eps: float = 1e-5
    sample_size: int = 64

    field_names: ClassVar[Mapping[str, str]] = {
        "block_out_channels": "channels",
        "layers_per_block": "blocks_per_level",
        "attention_head_dim": "heads",  # a mistake of diffusers' that all configs share: it is the number of heads
        "transformer_layers_per_block": "depth",
        "cross_attention_dim": "context_dim",
        "use_linear_projection": "linear_projection",
        "norm_num_groups": "norm_groups",
    }

    def __post_init__(self) -> None:
        levels = {len(values) for values in (self.channels, self.attention, self.heads, self.depth)}
        if len(levels) > 1 or 0 in levels:
            raise ConfigError(
                f"channels {self.channels}, attention {self.attention}, heads {self.heads} and depth {self.depth} disagree on the "
                "number of levels; give each one entry per level"
            )


@dataclass(frozen=True, slots=True)
class KeysValues:
    """Keys and values of a text, for every cross-attention of a U-Net in the order they are called: `b heads n d` each."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def concat(cls, parts: Sequence[KeysValues]) -> KeysValues:
        """Put the rows of several texts (of equal length n) into one batch."""
        layers = zip(*(part.layers for part in parts), strict=True)
        return cls(tuple((torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in layers))

    def rows(self, start: int, stop: int) -> KeysValues:
        """Rows `start` to `stop` (not included) of the batch, without a copy."""
        return KeysValues(tuple((k[start:stop], v[start:stop]) for k, v in self.layers))

    @property
    def rows_count(self) -> int:
        """How many rows the batch has."""
        return self.layers[0][0].shape[0]


class Block(nn.Module):
    """One resnet and, on the levels that attend, one spatial transformer."""

    def __init__(self, resnet: ResnetBlock, attention: SpatialTransformer | None) -> None:
        super().__init__()
        self.resnet = resnet
        self.attention = attention

    def forward(self, x: Tensor, time: Tensor, keys_values: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """Map `b c h w` at a time, towards a text."""
        x = self.resnet(x, time)
        return x if self.attention is None else self.attention(x, keys_values)


class UNet(Network):
    """Predicts, from noisy latents and a text, what training asked for (the noise, v, or the sample).

    Down: at each level, blocks and then half the size, keeping every output. Up: the reverse, each block also reading what was kept.
    Source: Rombach et al. 2022, arXiv:2112.10752, section 3.2, after Ronneberger et al. 2015, arXiv:1505.04597.
    """

    down: nn.ModuleList
    middle: nn.ModuleList
    up: nn.ModuleList

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_slicing: int | None = None
        channels = config.channels
        last = len(channels) - 1

        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], 4 * channels[0])

        self.down = nn.ModuleList()
        kept = [channels[0]]  # channels of every output that the way up reads
        for level, width in enumerate(channels):
            for _ in range(config.blocks_per_level):
                attention = spatial_transformer(config, level) if config.attention[level] else None
                self.down.append(Block(resnet(config, kept[-1], width), attention))
                kept.append(width)
            if level < last:
                self.down.append(Downsample(width))
                kept.append(width)

        self.middle = nn.ModuleList(
            [
                Block(resnet(config, channels[last], channels[last]), spatial_transformer(config, last)),
                Block(resnet(config, channels[last], channels[last]), None),
            ]
        )

        self.up = nn.ModuleList()
        below = channels[last]
        for level, width in reversed(list(enumerate(channels))):
            for _ in range(config.blocks_per_level + 1):
                attention = spatial_transformer(config, level) if config.attention[level] else None
                self.up.append(Block(resnet(config, below + kept.pop(), width), attention))
                below = width
            if level > 0:
                self.up.append(Upsample(width))

        self.norm_out = nn.GroupNorm(config.norm_groups, channels[0], eps=config.norm_eps)
        self.conv_out = zeroed(nn.Conv2d(channels[0], config.out_channels, 3, padding=1))

    def keys_values(self, context: Float[Tensor, "b n k"]) -> KeysValues:
        """Keys and values of a text: they depend on no x and no timestep, so once per image is enough."""
        return KeysValues(tuple(layer.keys_values(context) for layer in self._cross_attentions()))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        timesteps: Tensor | float,
        context: Float[Tensor, "b n k"] | KeysValues,
    ) -> Float[Tensor, "b c h w"]:
        """Answer for noisy latents already scaled to unit variance, at one timestep (0–999, fractions allowed) per row, or for all."""
        text = context if isinstance(context, KeysValues) else self.keys_values(context)
        keys_values = iter(text.layers)
        timesteps = torch.as_tensor(timesteps, device=x.device).expand(len(x))
        time = self.time_embedding(timesteps, x.dtype)

        x = self.conv_in(x)
        kept = [x]
        for layer in self.down:
            x = layer(x) if isinstance(layer, Downsample) else layer(x, time, keys_values)
            kept.append(x)
        for block in self.middle:
            x = block(x, time, keys_values)
        for layer in self.up:
            if isinstance(layer, Upsample):
                x = layer(x, kept[-1].shape[-2:])
            else:
                x = layer(torch.cat([x, kept.pop()], dim=1), time, keys_values)
        return self.conv_out(F.silu(self.norm_out(x)))

    def set_attention_slicing(self, heads: int | None) -> None:
        """Compute at most so many heads of an attention at a time (None: all): less memory, the same picture."""
        self.attention_slicing = heads
        for module in self.modules():
            if isinstance(module, Attention):
                module.slice_size = heads

    def _cross_attentions(self) -> Iterator[Attention]:
        # Registration order is call order: down, middle, up, and the blocks of each in turn.
        return (module.cross_attention for module in self.modules() if isinstance(module, TransformerBlock))


def resnet(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock:
    """A residual block of this U-Net."""
    return ResnetBlock(
        in_channels,
        out_channels,
        time_width=4 * config.channels[0],
        norm_groups=config.norm_groups,
        eps=config.norm_eps,
    )


def spatial_transformer(config: UNetConfig, level: int) -> SpatialTransformer:
    """The attention of one level of this U-Net."""
    return SpatialTransformer(
        config.channels[level],
        heads=config.heads[level],
        context_width=config.context_dim,
        depth=config.depth[level],
        norm_groups=config.norm_groups,
        linear=config.linear_projection,
    )
