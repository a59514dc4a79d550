"""The denoising network: a U-Net that attends to the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.errors import ConfigError, OptionError
from sfumato.models.attention import Attention, Perturbed, SpatialTransformer, TransformerBlock
from sfumato.models.convolution import Conv2d
from sfumato.models.deep_features import DeepFeatures
from sfumato.models.freeu import FreeU
from sfumato.models.linear import Linear
from sfumato.models.merging import Merging
from sfumato.models.network import NamedConfig, Network
from sfumato.models.resnet import Downsample, ResnetBlock, Upsample, zeroed
from sfumato.models.text_embedding import TextEmbedding
from sfumato.models.time_embedding import SizeEmbedding, TimeEmbedding, guidance_sinusoids

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig(NamedConfig):
    """Sizes of a U-Net; the defaults are Stable Diffusion 1's. One entry per level, outermost (largest) first.

    `attention` says which levels attend (the middle always does), `heads` into how many heads, `depth` how many transformer blocks.
    `sample_size` is the height and width of the latents it was trained on. Raises ConfigError if the levels disagree in number.

    What only some families have:
    only_cross      which levels attend to the text alone, none by default (the ×4 upscaler)
    sizes_width     width of a pooled text with the sinusoids of some sizes, each `size_width` wide (SDXL)
    noise_levels    how many levels of noise in a second picture it can be told (the ×4 upscaler)
    guidance_width  width in which it is told the guidance scale it was distilled with (LCM)
    text_heads      heads of the attention that pools the text for every layer (the bundled model)
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
    only_cross: tuple[bool, ...] = ()
    sizes_width: int | None = None
    size_width: int = 256
    noise_levels: int | None = None
    guidance_width: int | None = None
    text_heads: int | None = None

    field_names: ClassVar[Mapping[str, str]] = {
        "block_out_channels": "channels",
        "layers_per_block": "blocks_per_level",
        "attention_head_dim": "heads",  # a mistake of diffusers' that all configs share: it is the number of heads
        "transformer_layers_per_block": "depth",
        "cross_attention_dim": "context_dim",
        "use_linear_projection": "linear_projection",
        "norm_num_groups": "norm_groups",
        "only_cross_attention": "only_cross",
        "projection_class_embeddings_input_dim": "sizes_width",
        "addition_time_embed_dim": "size_width",
        "num_class_embeds": "noise_levels",
        "time_cond_proj_dim": "guidance_width",
        "addition_embed_type_num_heads": "text_heads",
    }

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that it writes."""
        return self.out_channels

    def __post_init__(self) -> None:
        only_cross = self.only_cross or (False,) * len(self.channels)
        levels = {len(values) for values in (self.channels, self.attention, self.heads, self.depth, only_cross)}
        if len(levels) > 1 or 0 in levels:
            raise ConfigError(
                f"channels {self.channels}, attention {self.attention}, heads {self.heads}, depth {self.depth} and only_cross "
                f"{only_cross} disagree on the number of levels; give each one entry per level"
            )
        # Levels that don't attend do so in no particular way: configs of one network are equal.
        settled = tuple(only and attends for only, attends in zip(only_cross, self.attention, strict=True))
        object.__setattr__(self, "only_cross", settled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a U-Net is told beside the text, one row a text; each is for the families that have it.

    pooled          the text as one vector, `b p`
    sizes           of the picture it was cut from, of the cut, of the picture wanted …: `b n` numbers
    noise_level     how much noise is in the second picture, `b` whole numbers
    guidance_scale  `b`
    """

    pooled: Tensor | None = None
    sizes: Tensor | None = None
    noise_level: Tensor | None = None
    guidance_scale: Tensor | None = None

    def to(self, device: torch.device) -> Told:
        """The same on another device."""
        moved = {option.name: getattr(self, option.name) for option in fields(self)}
        return Told(**{name: None if value is None else value.to(device) for name, value in moved.items()})


@dataclass(frozen=True, slots=True)
class KeysValues:
    """All that a U-Net makes of what it is given once an image: a text, and what it is told beside it.

    layers   keys and values for every attention to the text, in the order they are called: `b heads n d` each
    before   what is added before the layers of the time embedding, `b channels`
    after    what is added after them, `b width`
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    before: Tensor | None = None
    after: Tensor | None = None

    @classmethod
    def concat(cls, parts: Sequence[KeysValues]) -> KeysValues:
        """Put the rows of several texts (of equal length n) into one batch."""

        def rows(tensors: Sequence[Tensor | None]) -> Tensor | None:
            present = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(present) if present else None

        layers = zip(*(part.layers for part in parts), strict=True)
        return cls(
            tuple((torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in layers),
            before=rows([part.before for part in parts]),
            after=rows([part.after for part in parts]),
        )

    def rows(self, start: int, stop: int) -> KeysValues:
        """Rows `start` to `stop` (not included) of the batch, without a copy."""
        return KeysValues(
            tuple((k[start:stop], v[start:stop]) for k, v in self.layers),
            before=None if self.before is None else self.before[start:stop],
            after=None if self.after is None else self.after[start:stop],
        )

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

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        keys_values: Iterator[tuple[Tensor, Tensor]],
        perturbed: Perturbed | None = None,
        merging: Merging | None = None,
    ) -> Tensor:
        """Map `b c h w` at a time, towards a text."""
        x = self.resnet(x, time)
        return x if self.attention is None else self.attention(x, keys_values, perturbed, merging)

    @property
    def readings(self) -> int:
        """How many attentions to the text it has."""
        blocks = [] if self.attention is None else self.attention.modules()
        return sum(len(block.reading()) for block in blocks if isinstance(block, TransformerBlock))


class UNet(Network):
    """Predicts, from noisy latents and a text, what training asked for (the noise, v, or the sample).

    Down: at each level, blocks and then half the size, keeping every output. Up: the reverse, each block also reading what was kept.
    Source: Rombach et al. 2022, arXiv:2112.10752, section 3.2, after Ronneberger et al. 2015, arXiv:1505.04597.
    """

    down: nn.ModuleList
    middle: nn.ModuleList
    up: nn.ModuleList
    quantisation: Any = None
    """By what its layers are computed in int8: see `models.quantising`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_slicing: int | None = None
        channels = config.channels
        last = len(channels) - 1
        time_width = 4 * channels[0]

        self.conv_in = Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], time_width)
        self.size_embedding = (
            SizeEmbedding(config.sizes_width, config.size_width, time_width) if config.sizes_width else None
        )
        self.text_embedding = (
            TextEmbedding(config.context_dim, time_width, config.text_heads) if config.text_heads else None
        )
        self.noise_embedding = nn.Embedding(config.noise_levels, time_width) if config.noise_levels else None
        self.guidance_embedding = (
            Linear(config.guidance_width, channels[0], bias=False) if config.guidance_width else None
        )

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
                Block(resnet(config, channels[last], channels[last]), spatial_transformer(config, last, middle=True)),
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
        self.conv_out = zeroed(Conv2d(channels[0], config.out_channels, 3, padding=1))

    def keys_values(self, context: Float[Tensor, "b n k"], told: Told | None = None) -> KeysValues:
        """Keys and values of a text, and what is told beside it: they depend on no x and no timestep, so once per image is enough.

        Raises OptionError where this U-Net has to be told something that is not given.
        """
        layers = tuple(layer.keys_values(context) for layer in self.cross_attentions())
        if not (self.size_embedding or self.text_embedding or self.noise_embedding or self.guidance_embedding):
            return KeysValues(layers)

        told = told or Told()
        before = after = None
        if self.size_embedding is not None:
            pooled, sizes = given("a pooled text", told.pooled), given("sizes", told.sizes)
            after = self.size_embedding(pooled.to(context.dtype), sizes)
        if self.text_embedding is not None:
            after = self.text_embedding(context)
        if self.noise_embedding is not None:
            level = self.noise_embedding(given("a noise level", told.noise_level))
            after = level if after is None else after + level
        if self.guidance_embedding is not None:
            scale = given("a guidance scale", told.guidance_scale)
            before = self.guidance_embedding(guidance_sinusoids(scale, self.guidance_embedding.in_features).to(context))
        return KeysValues(layers, before=before, after=after)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        timesteps: Tensor | float,
        context: Float[Tensor, "b n k"] | KeysValues,
        perturbed: Perturbed | None = None,
        freeu: FreeU | None = None,
        merging: Merging | None = None,
        deep: DeepFeatures | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Answer for noisy latents already scaled to unit variance, at one timestep (0–999, fractions allowed) per row, or for all.

        Where the U-Net is told more than a text, `context` has to be of `keys_values`. `perturbed` is of `perturbing`; `freeu` weighs what
        the two innermost levels of the way up read; `merging` is of `merging_positions`. With `deep`, what lies inside is computed and put
        there, or, where something is there, not computed.
        """
        text = context if isinstance(context, KeysValues) else self.keys_values(context)
        timesteps = torch.as_tensor(timesteps, device=x.device).expand(len(x))
        time = self.time_embedding(timesteps, x.dtype, before=text.before, after=text.after)
        whole = deep is None or deep.features is None
        first = 0 if deep is None else self.entrance(deep.depth)
        down = list(self.down) if deep is None or whole else list(self.down)[: deep.depth]
        keys_values = iter(text.layers if whole else self._outer_layers(text, down, first))

        x = self.conv_in(x)
        kept = [x]
        for layer in down:
            x = layer(x) if isinstance(layer, Downsample) else layer(x, time, keys_values, perturbed, merging)
            kept.append(x)
        for block in self.middle if whole else ():
            x = block(x, time, keys_values, perturbed, merging)
        stage = 0
        for place, layer in enumerate(self.up):
            if deep is not None and place == first:
                x = deep.features = x if deep.features is None else deep.features
            if isinstance(layer, Upsample):
                x = layer(x, kept[-1].shape[-2:]) if whole or place > first else x
                stage += 1
            elif whole or place >= first:
                pair = (x, kept.pop()) if freeu is None else freeu(x, kept.pop(), stage)
                x = layer(torch.cat(pair, dim=1), time, keys_values, perturbed, merging)
        return self.conv_out(F.silu(self.norm_out(x)))

    def entrance(self, depth: int) -> int:
        """The place on the way up of the block that reads what the layer `depth` of the way down left; 0 is the first convolution."""
        places = [place for place, layer in enumerate(self.up) if not isinstance(layer, Upsample)]
        return places[-1 - depth]

    def _outer_layers(
        self, text: KeysValues, down: Iterable[nn.Module], first: int
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """The keys and values of the attentions that lie outside: those of some layers of the way down, and of the way up from one on."""
        before, after = (
            sum(layer.readings for layer in layers if isinstance(layer, Block)) for layers in (down, self.up[first:])
        )
        return (*text.layers[:before], *text.layers[len(text.layers) - after :])

    def set_attention_slicing(self, heads: int | None) -> None:
        """Compute at most so many heads of an attention at a time (None: all): less memory, the same picture."""
        self.attention_slicing = heads
        for attention in (module for module in self.modules() if isinstance(module, Attention)):
            attention.slice_size = heads

    def perturbing(self, names: Sequence[str], rows: Sequence[bool]) -> Perturbed:
        """What `forward` takes to switch off the self-attentions of these names, in the rows where it says so."""
        attentions = frozenset[nn.Module](self.get_submodule(name) for name in names)
        return Perturbed(attentions, torch.tensor(rows, device=self.device))

    def merging_positions(self, share: float) -> Merging:
        """What `forward` takes to merge a share of the positions before the self-attentions of the largest maps that have any."""
        attends, only = self.config.attention, self.config.only_cross
        levels = [level for level in range(len(only)) if attends[level] and not only[level]]
        blocks = [block for block in self._blocks_of(levels[0]) if block.attention is not None] if levels else []
        inner = [each for block in blocks for each in block.modules() if isinstance(each, TransformerBlock)]
        return Merging(frozenset(block.self_attention for block in inner), share)

    def _blocks_of(self, level: int) -> Iterator[Block]:
        """The blocks of one level of the way down and up."""
        for layers, change, place in ((self.down, Downsample, 0), (self.up, Upsample, 1 - len(self.config.channels))):
            for layer in layers:
                if isinstance(layer, change):
                    place += 1
                elif isinstance(layer, Block) and abs(place) == level:
                    yield layer

    def self_attentions(self) -> list[str]:
        """The names of the attentions of positions to each other, in the order they are called."""
        blocks = ((name, block) for name, block in self.named_modules() if isinstance(block, TransformerBlock))
        return [f"{name}.self_attention" for name, block in blocks if not block.only_cross]

    def cross_attentions(self) -> Iterator[Attention]:
        """The attentions that look at the text, in the order they are called."""
        # Registration order is call order: down, middle, up, and the blocks of each in turn.
        return (layer for block in self.modules() if isinstance(block, TransformerBlock) for layer in block.reading())


def given(what: str, value: Tensor | None) -> Tensor:
    """The value. Raises OptionError if there is none."""
    if value is None:
        raise OptionError(f"this U-Net has to be told {what} beside the text; pass keys_values(context, Told(…))")
    return value


def resnet(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock:
    """A residual block of this U-Net."""
    return ResnetBlock(
        in_channels,
        out_channels,
        time_width=4 * config.channels[0],
        norm_groups=config.norm_groups,
        eps=config.norm_eps,
    )


def spatial_transformer(config: UNetConfig, level: int, *, middle: bool = False) -> SpatialTransformer:
    """The attention of one level of this U-Net, or of its middle."""
    return SpatialTransformer(
        config.channels[level],
        heads=config.heads[level],
        context_width=config.context_dim,
        depth=config.depth[level],
        norm_groups=config.norm_groups,
        linear=config.linear_projection,
        only_cross=config.only_cross[level] and not middle,
    )
