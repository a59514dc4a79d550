"""The JSON configs of diffusers' networks ⇄ our typed configs, both ways.

What an option does when absent is what diffusers does. One that we implement at a single value is refused at any
other; those that change no result are named here and skipped.
"""

from collections.abc import Mapping
from typing import Any

from sfumato.checkpoints.options import MOST_BLOCKS, Options, check_heads
from sfumato.errors import ConfigError
from sfumato.models import UNetConfig, VAEConfig

ATTENDING = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
PLAIN = ("DownBlock2D", "UpBlock2D")

UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
# How weights were averaged in training, which saving the average writes into the config; and the dtype they were saved in.
OF_TRAINING = (
    "decay", "dtype", "inv_gamma", "min_decay", "optimization_step", "power", "torch_dtype", "update_after_step",
    "use_ema_warmup",
)  # fmt: skip
# Dropout acts in training only; the others say how to compute, or matter only together with an option that is refused above.
UNET_IGNORED = ("dropout", "upcast_attention", *OF_TRAINING)

VAE_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
# Whether to compute in float32 is for whoever runs it to say.
VAE_IGNORED = ("force_upcast", *OF_TRAINING)


def read_unet_config(values: Mapping[str, Any], where: str = "unet config") -> UNetConfig:
    """Read the config of a UNet2DConditionModel. Raises ConfigError for options that Sfumato does not implement, or of wrong type."""
    check_class(values, "UNet2DConditionModel", where)
    options = Options(values, where)
    channels = options.integers("block_out_channels", [320, 640, 1280, 1280])
    levels = len(channels)
    down = options.names("down_block_types", (ATTENDING[0], PLAIN[0]), [ATTENDING[0]] * 3 + [PLAIN[0]])
    up = options.names("up_block_types", (ATTENDING[1], PLAIN[1]), [PLAIN[1]] + [ATTENDING[1]] * 3)
    attention = tuple(name == ATTENDING[0] for name in down)
    if channels[0] % 2:
        raise options.wrong(
            "block_out_channels", channels, "an even first number: the timestep is told in sines and cosines"
        )
    if len(down) != levels:
        raise options.wrong("down_block_types", list(down), f"{levels} names, one for each of block_out_channels")
    if tuple(name == ATTENDING[1] for name in reversed(up)) != attention:
        raise options.wrong("up_block_types", list(up), "the mirror image of down_block_types")
    config = UNetConfig(
        in_channels=options.integer("in_channels", 4),
        out_channels=options.integer("out_channels", 4),
        channels=channels,
        blocks_per_level=options.same_on_every_level("layers_per_block", 2, most=MOST_BLOCKS),
        attention=attention,
        # The name is a mistake of diffusers' that all configs share: it is the number of heads.
        heads=options.per_level("attention_head_dim", levels, 8),
        depth=options.per_level("transformer_layers_per_block", levels, 1, most=MOST_BLOCKS),
        context_dim=options.same_on_every_level("cross_attention_dim", 1280),
        linear_projection=options.flag("use_linear_projection", False),
        norm_groups=options.integer("norm_num_groups", 32),
        norm_eps=options.number("norm_eps", 1e-5),
        sample_size=options.sides("sample_size", 64),
        only_cross=options.flags("only_cross_attention", levels),
        noise_levels=options.integer_or_none("num_class_embeds"),
        guidance_width=options.integer_or_none("time_cond_proj_dim"),
        **read_addition(options),
    )
    if config.only_cross[-1] and not isinstance(values["only_cross_attention"], list):
        raise options.wrong(
            "only_cross_attention", True, "a list of one for each level: a plain true changes the middle too"
        )
    options.fixed(UNET_FIXED)
    options.ignore(*UNET_IGNORED)
    options.finish()
    check_groups(where, channels, config.norm_groups)
    if config.text_heads is not None:
        check_heads(where, config.context_dim, config.text_heads)
    attending = (*(level for level in range(levels) if attention[level]), levels - 1)
    for level in attending:
        check_heads(where, channels[level], config.heads[level])
    return config


def read_addition(options: Options) -> dict[str, Any]:
    """Take what the network is told beside the timestep: sizes, as SDXL is, or the pooled text; nothing for most. Raises ConfigError."""
    # It hangs on one option, under which the others are read, or else must be off.
    kind = options.choice_or_none("addition_embed_type", ("text_time", "text"))
    heads = options.integer("addition_embed_type_num_heads", 64)
    if kind != "text_time":
        options.fixed({"addition_time_embed_dim": None, "projection_class_embeddings_input_dim": None})
        return {} if kind is None else {"text_heads": heads}
    sizes_width = options.integer("projection_class_embeddings_input_dim")
    size_width = options.integer("addition_time_embed_dim", least=2)
    if size_width % 2 or sizes_width <= size_width:
        raise options.wrong(
            "addition_time_embed_dim", size_width, f"an even number below {sizes_width}, in which it fits"
        )
    return {"sizes_width": sizes_width, "size_width": size_width}


def write_unet_config(config: UNetConfig) -> dict[str, Any]:
    """Write the config of a UNet2DConditionModel. What only some families have is written where it is not off."""
    special: dict[str, Any] = {}
    if any(config.only_cross):
        special["only_cross_attention"] = list(config.only_cross)
    if config.sizes_width is not None:
        special["addition_embed_type"] = "text_time"
        special["addition_time_embed_dim"] = config.size_width
        special["projection_class_embeddings_input_dim"] = config.sizes_width
    if config.text_heads is not None:
        special["addition_embed_type"] = "text"
        special["addition_embed_type_num_heads"] = config.text_heads
    if config.noise_levels is not None:
        special["num_class_embeds"] = config.noise_levels
    if config.guidance_width is not None:
        special["time_cond_proj_dim"] = config.guidance_width
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.channels),
        "down_block_types": [ATTENDING[0] if attends else PLAIN[0] for attends in config.attention],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": [ATTENDING[1] if attends else PLAIN[1] for attends in reversed(config.attention)],
        "layers_per_block": config.blocks_per_level,
        "attention_head_dim": scalar_if_equal(config.heads),
        "transformer_layers_per_block": scalar_if_equal(config.depth),
        "cross_attention_dim": config.context_dim,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.norm_groups,
        "norm_eps": config.norm_eps,
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        **special,
    }


def read_vae_config(values: Mapping[str, Any], where: str = "vae config") -> VAEConfig:
    """Read the config of an AutoencoderKL. Raises ConfigError for options that Sfumato does not implement, or of wrong type."""
    check_class(values, "AutoencoderKL", where)
    options = Options(values, where)
    channels = options.integers("block_out_channels", [64])
    for name, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        types = options.names(name, (block,), [block])
        if len(types) != len(channels):
            raise options.wrong(name, list(types), f"{len(channels)} names, one for each of block_out_channels")
    config = VAEConfig(
        in_channels=options.integer("in_channels", 3),
        out_channels=options.integer("out_channels", 3),
        latent_channels=options.integer("latent_channels", 4),
        channels=channels,
        blocks_per_level=options.integer("layers_per_block", 1, most=MOST_BLOCKS),
        norm_groups=options.integer("norm_num_groups", 32),
        scaling_factor=options.number("scaling_factor", 0.18215),
        sample_size=options.sides("sample_size", 32),
    )
    options.fixed(VAE_FIXED)
    options.ignore(*VAE_IGNORED)
    options.finish()
    check_groups(where, channels, config.norm_groups)
    return config


def write_vae_config(config: VAEConfig) -> dict[str, Any]:
    """Write the config of an AutoencoderKL."""
    levels = len(config.channels)
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.norm_groups,
        "scaling_factor": config.scaling_factor,
        "act_fn": "silu",
    }


def check_class(values: Mapping[str, Any], expected: str, where: str) -> None:
    """Raise ConfigError if a diffusers config names another class; the oldest name none."""
    found = values.get("_class_name", expected)
    if found != expected:
        raise ConfigError(
            f"{where}: _class_name is {found!r}, which Sfumato does not implement here; expected {expected!r}"
        )


def check_groups(where: str, channels: tuple[int, ...], groups: int) -> None:
    """Raise ConfigError unless the norm groups divide the channels of every level."""
    if any(width % groups for width in channels):
        raise ConfigError(
            f"{where}: norm_num_groups is {groups}; expected a divisor of every one of block_out_channels {list(channels)}"
        )


def scalar_if_equal(values: tuple[int, ...]) -> int | list[int]:
    """One number for all levels where they agree: the form that the oldest readers understand."""
    return values[0] if len(set(values)) == 1 else list(values)
