"""The JSON configs of transformers' CLIP networks ⇄ our typed configs, both ways.

What an option does when absent is what transformers does.
"""

from collections.abc import Mapping
from typing import Any, cast

from sfumato.checkpoints.options import MOST_LAYERS, Options, check_heads
from sfumato.errors import ConfigError
from sfumato.models import CLIPTextConfig, CLIPVisionConfig, SafetyCheckerConfig
from sfumato.models.clip_transformer import ACTIVATIONS, Activation


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


def class_of(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> str:
    """The class that a transformers config names, the first known one if it names none. Raises ConfigError for any other."""
    names: object = values.get("architectures") or [known[0]]
    found: object = cast("list[object]", names)[0] if isinstance(names, list) else names
    if not isinstance(found, str) or found not in known:
        raise ConfigError(
            f"{where}: architectures names {found!r}, which Sfumato does not implement here; expected {' or '.join(known)}"
        )
    return found
