"""The JSON configs of a diffusers folder ⇄ our typed configs, both ways.

What an option does when absent is what diffusers or transformers does. One that we implement at a single value is refused at any
other; those that change no result are named here and skipped.
"""

from collections.abc import Mapping
from typing import Any, cast

from sfumato.checkpoints.options import MOST_BLOCKS, MOST_LAYERS, Options
from sfumato.errors import ConfigError
from sfumato.models import CLIPTextConfig, CLIPVisionConfig, SafetyCheckerConfig, UNetConfig, VAEConfig
from sfumato.models.clip_transformer import ACTIVATIONS, Activation

ATTENDING = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
PLAIN = ("DownBlock2D", "UpBlock2D")

UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
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
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
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
UNET_IGNORED = ("dropout", "upcast_attention", "addition_embed_type_num_heads", *OF_TRAINING)

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
    )
    options.fixed(UNET_FIXED)
    options.ignore(*UNET_IGNORED)
    options.finish()
    check_groups(where, channels, config.norm_groups)
    attending = (*(level for level in range(levels) if attention[level]), levels - 1)
    for level in attending:
        check_heads(where, channels[level], config.heads[level])
    return config


def write_unet_config(config: UNetConfig) -> dict[str, Any]:
    """Write the config of a UNet2DConditionModel."""
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


def read_text_config(values: Mapping[str, Any], where: str = "text encoder config") -> CLIPTextConfig:
    """Read the config of a CLIPTextModel, or of a CLIPTextModelWithProjection.

    The config of a whole CLIPModel holds it under `text_config`, where transformers looks for it too.
    Raises ConfigError for another class or values of wrong type. A config of transformers repeats dozens of settings of text
    generation, which mean nothing to CLIP: what is not read below changes no result.
    """
    architecture = class_of(values, ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"), where)
    if "text_config" in values:
        values, where = part_of(values, "text_config", where), f"{where}, text_config"
    if values.get("use_attention_mask"):
        raise ConfigError(
            f"{where}: use_attention_mask is set, which hides padding from the text encoder; Sfumato's sees it, as CLIP's does"
        )
    options = Options(values, where)
    config = CLIPTextConfig(
        vocab_size=options.integer("vocab_size", 49408),
        width=options.integer("hidden_size", 512),
        layers=options.integer("num_hidden_layers", 12, most=MOST_LAYERS),
        heads=options.integer("num_attention_heads", 8),
        max_length=options.integer("max_position_embeddings", 77),
        mlp_width=options.integer("intermediate_size", 2048),
        activation=read_activation(options),
        eos_token_id=options.integer("eos_token_id", 49407, least=0),
        projection_dim=options.integer("projection_dim", 512)
        if architecture == "CLIPTextModelWithProjection"
        else None,
        norm_eps=options.number("layer_norm_eps", 1e-5),
    )
    check_heads(where, config.width, config.heads)
    return config


# What transformers opens a component in when nobody says: else that of its file, which beside a U-Net, opened by diffusers in
# float32 whatever its file holds, makes a half-precision folder one that can't draw.
DTYPE_OPENED = "float32"


def write_text_config(config: CLIPTextConfig) -> dict[str, Any]:
    """Write the config of a CLIPTextModel, or of a CLIPTextModelWithProjection."""
    return {
        "architectures": ["CLIPTextModel" if config.projection_dim is None else "CLIPTextModelWithProjection"],
        "model_type": "clip_text_model",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.max_length,
        "intermediate_size": config.mlp_width,
        "hidden_act": config.activation,
        # CLIP numbers its start token just below its end token. Only the end token changes a result, but readers check both.
        "bos_token_id": max(config.eos_token_id - 1, 0),
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.eos_token_id,
        "projection_dim": config.width if config.projection_dim is None else config.projection_dim,
        "layer_norm_eps": config.norm_eps,
        "dtype": DTYPE_OPENED,
    }


def read_safety_config(values: Mapping[str, Any], where: str = "safety checker config") -> SafetyCheckerConfig:
    """Read the config of a StableDiffusionSafetyChecker. Raises ConfigError for another class or values of wrong type."""
    class_of(values, ("StableDiffusionSafetyChecker",), where)
    # Older files repeat the vision options under a second name. transformers fills that one up with defaults and lets it win, so
    # where it is given nothing is left of the first.
    parts = {name: part_of(values, name, where) for name in ("vision_config", "vision_config_dict")}
    name = "vision_config" if values.get("vision_config_dict") is None else "vision_config_dict"
    return SafetyCheckerConfig(
        vision=read_vision_config(parts[name], f"{where}, {name}"),
        projection_dim=Options(values, where).integer("projection_dim", 512),
    )


def read_vision_config(values: Mapping[str, Any], where: str) -> CLIPVisionConfig:
    """Read the vision part of a CLIP config. Raises ConfigError for values of wrong type."""
    options = Options(values, where)
    config = CLIPVisionConfig(
        in_channels=options.integer("num_channels", 3),
        image_size=options.sides("image_size", 224),
        patch_size=options.sides("patch_size", 32),
        width=options.integer("hidden_size", 768),
        layers=options.integer("num_hidden_layers", 12, most=MOST_LAYERS),
        heads=options.integer("num_attention_heads", 12),
        mlp_width=options.integer("intermediate_size", 3072),
        activation=read_activation(options),
        norm_eps=options.number("layer_norm_eps", 1e-5),
    )
    check_heads(where, config.width, config.heads)
    if config.image_size < config.patch_size:
        raise options.wrong("patch_size", config.patch_size, f"at most image_size, which is {config.image_size}")
    return config


def write_safety_config(config: SafetyCheckerConfig) -> dict[str, Any]:
    """Write the config of a StableDiffusionSafetyChecker."""
    vision = config.vision
    return {
        "architectures": ["StableDiffusionSafetyChecker"],
        "model_type": "clip",
        "dtype": DTYPE_OPENED,
        "projection_dim": config.projection_dim,
        "vision_config": {
            "model_type": "clip_vision_model",
            "num_channels": vision.in_channels,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "intermediate_size": vision.mlp_width,
            "hidden_act": vision.activation,
            "projection_dim": config.projection_dim,
            "layer_norm_eps": vision.norm_eps,
        },
    }


def part_of(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A config within a config, empty where it is null or absent. Raises ConfigError for what is no object."""
    part: object = values.get(name)
    if part is not None and not isinstance(part, dict):
        raise ConfigError(f"{where}: {name} is a {type(part).__name__}; expected an object")
    return cast("dict[str, Any]", part or {})


def read_activation(options: Options) -> Activation:
    """Take the activation of a CLIP transformer."""
    return cast("Activation", options.choice("hidden_act", tuple(ACTIVATIONS), "quick_gelu"))


def check_class(values: Mapping[str, Any], expected: str, where: str) -> None:
    """Raise ConfigError if a diffusers config names another class; the oldest name none."""
    found = values.get("_class_name", expected)
    if found != expected:
        raise ConfigError(
            f"{where}: _class_name is {found!r}, which Sfumato does not implement here; expected {expected!r}"
        )


def class_of(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> str:
    """The class that a transformers config names, the first known one if it names none. Raises ConfigError for any other."""
    names: object = values.get("architectures") or [known[0]]
    found: object = cast("list[object]", names)[0] if isinstance(names, list) else names
    if not isinstance(found, str) or found not in known:
        raise ConfigError(
            f"{where}: architectures names {found!r}, which Sfumato does not implement here; expected {' or '.join(known)}"
        )
    return found


def check_groups(where: str, channels: tuple[int, ...], groups: int) -> None:
    """Raise ConfigError unless the norm groups divide the channels of every level."""
    if any(width % groups for width in channels):
        raise ConfigError(
            f"{where}: norm_num_groups is {groups}; expected a divisor of every one of block_out_channels {list(channels)}"
        )


def check_heads(where: str, width: int, heads: int) -> None:
    """Raise ConfigError unless the heads divide the width."""
    if width % heads:
        raise ConfigError(
            f"{where}: {heads} attention heads do not divide a width of {width}; expected a divisor of it"
        )


def scalar_if_equal(values: tuple[int, ...]) -> int | list[int]:
    """One number for all levels where they agree: the form that the oldest readers understand."""
    return values[0] if len(set(values)) == 1 else list(values)
