"""The network of the latent ×2 upscaler in diffusers' layout, the only one it is found in: its config, its names, its sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.checkpoints.configs import UNET_FIXED, UNET_IGNORED, check_class
from sfumato.checkpoints.diffusers_layout import ATTENTION
from sfumato.checkpoints.keys import KeyMap, Table, under
from sfumato.checkpoints.options import MOST_BLOCKS, Options
from sfumato.checkpoints.sizes import count
from sfumato.errors import ConfigError
from sfumato.models.latent_upscaler import GROUP_WIDTH, NOISE_WIDTH, LatentUpscalerConfig

DOWN = ("KDownBlock2D", "KCrossAttnDownBlock2D")
UP = ("KUpBlock2D", "KCrossAttnUpBlock2D")

# What makes a U-Net this one, and what diffusers does where a config does not say it.
MADE_SO: dict[str, Any] = {
    "act_fn": "gelu",
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "mid_block_type": None,
    "norm_num_groups": None,
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
}
UNSAID: dict[str, Any] = {
    "act_fn": "silu",
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_num_groups": 32,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
FIXED: dict[str, Any] = {**UNET_FIXED, **MADE_SO, "norm_eps": 1e-5}
# What these blocks of diffusers' do not look at, or look at together with an option that is refused.
IGNORED = (
    "addition_embed_type_num_heads", "only_cross_attention", "resnet_time_scale_shift", "transformer_layers_per_block",
    "use_linear_projection", *UNET_IGNORED,
)  # fmt: skip


def is_latent_upscaler(values: Mapping[str, Any]) -> bool:
    """Whether a config of a UNet2DConditionModel is one of this kind: by its blocks."""
    types: object = values.get("down_block_types")
    return isinstance(types, list) and any(name in DOWN for name in types)  # pyright: ignore[reportUnknownVariableType] (JSON)


def read_latent_upscaler_config(values: Mapping[str, Any], where: str = "unet config") -> LatentUpscalerConfig:
    """Read the config of a UNet2DConditionModel of k-diffusion's blocks. Raises ConfigError for any but a latent upscaler's."""
    check_class(values, "UNet2DConditionModel", where)
    options = Options(UNSAID | dict(values), where)
    config = LatentUpscalerConfig(
        in_channels=options.integer("in_channels", 4),
        out_channels=options.integer("out_channels", 4, least=2),
        channels=options.integers("block_out_channels", [320, 640, 1280, 1280]),
        blocks_per_level=options.same_on_every_level("layers_per_block", 2, most=MOST_BLOCKS),
        # Of these blocks it is what it says, where in all others it is the number of heads.
        head_width=options.same_on_every_level("attention_head_dim", 8),
        context_dim=options.same_on_every_level("cross_attention_dim", 1280),
        sample_size=options.sides("sample_size", LatentUpscalerConfig().sample_size),
    )
    channels, last = config.channels, len(config.channels) - 1
    down, up = options.names("down_block_types", DOWN), options.names("up_block_types", UP)
    if down != (DOWN[0], *(DOWN[1],) * last):
        raise options.wrong("down_block_types", list(down), f"{DOWN[0]}, then {last} of {DOWN[1]}")
    if up != (*(UP[1],) * last, UP[0]):
        raise options.wrong("up_block_types", list(up), f"{last} of {UP[1]}, then {UP[0]}")
    # diffusers takes the one level that is so for the innermost, which alone attends to itself and reads nothing kept.
    width = config.time_width
    inner = [level for level in range(1, last + 1) if channels[level - 1] == channels[level] == width]
    if inner != [last]:
        raise options.wrong(
            "block_out_channels", list(channels), f"two at the end, and only there, of {width} (2 × the first)"
        )
    if any(each % GROUP_WIDTH or each % config.head_width for each in channels):
        raise options.wrong(
            "block_out_channels", list(channels), f"multiples of {GROUP_WIDTH} and of the heads' {config.head_width}"
        )
    told = options.integer("time_cond_proj_dim")
    if told != config.told_width:
        raise options.wrong("time_cond_proj_dim", told, f"{NOISE_WIDTH} and the {config.context_dim} of a pooled text")
    options.fixed({name: value for name, value in FIXED.items() if name not in IGNORED})
    options.ignore(*IGNORED)
    options.finish()
    return config


def write_latent_upscaler_config(config: LatentUpscalerConfig) -> dict[str, Any]:
    """Write the config of a UNet2DConditionModel of k-diffusion's blocks."""
    last = len(config.channels) - 1
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.channels),
        "down_block_types": [DOWN[0], *[DOWN[1]] * last],
        "up_block_types": [*[UP[1]] * last, UP[0]],
        "layers_per_block": config.blocks_per_level,
        "attention_head_dim": config.head_width,
        "cross_attention_dim": config.context_dim,
        "time_cond_proj_dim": config.told_width,
        "norm_eps": FIXED["norm_eps"],
        "resnet_time_scale_shift": "scale_shift",
        "flip_sin_to_cos": True,
        **MADE_SO,
    }


# -- names -----------------------------------------------------------------------------------------------------------

RESNET: Table = (
    ("norm1.linear", "norm1.linear"),
    ("conv1", "conv1"),
    ("norm2.linear", "norm2.linear"),
    ("conv2", "conv2"),
    ("conv_shortcut", "shortcut"),
)
TIMED_ATTENTION: Table = (
    ("norm1.linear", "norm1.linear"),
    *under("attn1", "self_attention", ATTENTION),
    ("norm2.linear", "norm2.linear"),
    ("attn2.norm_cross", "norm_text"),
    *under("attn2", "cross_attention", ATTENTION),
)
ENDS: Table = (
    ("conv_in", "conv_in"),
    ("time_proj.weight", "time_embedding.frequencies"),
    ("time_embedding.linear_1", "time_embedding.linear1"),
    ("time_embedding.linear_2", "time_embedding.linear2"),
    ("time_embedding.cond_proj", "told_embedding"),
    ("conv_out", "conv_out"),
)


def latent_upscaler_keys(config: LatentUpscalerConfig) -> KeyMap:
    """Names of UNet2DConditionModel with k-diffusion's blocks. Its changes of size, which we count among the blocks, have no tensors."""
    levels, blocks = len(config.channels), config.blocks_per_level
    table = ENDS
    for level in range(levels):
        for block in range(blocks):
            at = level * (blocks + 1) + block
            table += block_keys(f"down_blocks.{level}", block, f"down.{at}")
            # The way up has as many blocks, and the same places; levels are counted from the innermost.
            table += block_keys(f"up_blocks.{level}", block, f"up.{at}")
    return KeyMap(table)


def block_keys(theirs: str, block: int, ours: str) -> Table:
    """One of our blocks: an entry of their list of resnets, and of their list of attentions where there are any."""
    resnet = under(f"{theirs}.resnets.{block}", f"{ours}.resnet", RESNET)
    return resnet + under(f"{theirs}.attentions.{block}", f"{ours}.attention", TIMED_ATTENTION)


# -- sizes -----------------------------------------------------------------------------------------------------------

SIGN = "down_blocks.0.resnets.0.norm1.linear.weight"
"""A tensor that no other U-Net has."""


def latent_upscaler_sizes(shapes: Mapping[str, Sequence[int]]) -> LatentUpscalerConfig:
    """The config of a network, from its tensors by name, under no prefix; no shape tells how wide its heads are, nor its size of picture.

    Raises ConfigError where tensors are missing, or have other shapes than such a network's.
    """
    resnet = "down_blocks.{}.resnets.0.conv1.weight"
    text = "down_blocks.1.attentions.0.attn2.to_k.weight"
    levels = count(shapes, resnet)
    for name in ("conv_in.weight", "conv_out.weight", text, *map(resnet.format, range(levels))):
        if len(shapes.get(name, ())) < 2:
            raise ConfigError(f"its U-Net has no {name}, as a latent upscaler has it; expected all of one's tensors")
    return LatentUpscalerConfig(
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes["conv_out.weight"][0],
        channels=tuple(shapes[resnet.format(level)][0] for level in range(levels)),
        blocks_per_level=count(shapes, "down_blocks.0.resnets.{}.conv1.weight"),
        context_dim=shapes[text][1],
    )
