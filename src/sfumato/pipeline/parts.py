"""What may be put into a pipeline as one of its parts: Sfumato's own, and what can be made into them."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from sfumato.checkpoints.families import detect_family
from sfumato.errors import ConfigError, UnsupportedError
from sfumato.models import AnyUNet
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.latent_upscaler import LatentUpscaler
from sfumato.models.safety_checker import SafetyChecker
from sfumato.models.tiny_vae import TinyAutoencoder
from sfumato.models.unet import UNet, UNetConfig
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.safety_choice import check_mode
from sfumato.schedulers import SCHEDULERS, Scheduler, UnavailableScheduler, scheduler_from_config
from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

KINDS: dict[str, type | tuple[type, ...]] = {
    "unet": (UNet, LatentUpscaler),
    "vae": (AutoencoderKL, TinyAutoencoder),
    "text_encoder": CLIPTextEncoder,
    "text_encoder_2": CLIPTextEncoder,
    "tokenizer": Tokenizer,
    "tokenizer_2": Tokenizer,
}


def as_part(name: str, value: Any, optional: Collection[str] = ()) -> Any:
    """The value as a pipeline takes it for its part `name`; what is no part of a pipeline passes as it is.

    Parts that are `optional` may be None. Schedulers of diffusers become Sfumato's, and so do the settings of a feature extractor of
    transformers.
    Raises UnsupportedError for a part of another library that can't be taken over.
    """
    if name == "scheduler":
        return as_scheduler(value)
    if name == "safety_checker":
        return as_safety_checker(value)
    if name == "safety_mode":
        return check_mode(value)
    if name == "feature_extractor":
        return value.to_dict() if hasattr(value, "to_dict") else value
    if value is None and name in optional:
        return None
    if name in KINDS and not isinstance(unwrapped(value), KINDS[name]):
        raise UnsupportedError(
            f"{name} can't be {described(value)}: only Sfumato's own works here; "
            f"open the same model by StableDiffusionPipeline.from_pretrained(…) and take its .{name}"
        )
    return value


def unwrapped(network: Any) -> Any:
    """The network itself, of one that torch.compile has wrapped."""
    return getattr(network, "_orig_mod", network)


def as_scheduler(value: Any) -> Scheduler:
    """A scheduler, also of one of diffusers', from its config. Raises UnsupportedError, or as `scheduler_from_config`."""
    config = getattr(value, "config", None)
    if isinstance(value, Scheduler):
        return value
    if isinstance(value, type) or not isinstance(config, Mapping):
        raise UnsupportedError(
            f"scheduler can't be {described(value)}; give one of {', '.join(SCHEDULERS)}, such as "
            "EulerDiscreteScheduler.from_config(pipe.scheduler.config)"
        )
    # Not the config's own _class_name: diffusers leaves there the class that the config was first written by.
    scheduler = scheduler_from_config({**config, "_class_name": type(value).__name__})
    if isinstance(scheduler, UnavailableScheduler):
        scheduler.refuse()
    return scheduler


def as_safety_checker(value: Any) -> SafetyChecker | NSFWFilter | Callable[..., Any] | None:
    """A safety checker, a filter or function that stands in for one, or None. Raises UnsupportedError for anything else."""
    if value is None or isinstance(unwrapped(value), SafetyChecker | NSFWFilter):
        return value
    if callable(value) and not isinstance(value, nn.Module | type):
        logger.warning("pictures are judged by the function that was put in the safety checker's place, not by a model")
        return value
    raise UnsupportedError(
        f"safety_checker can't be {described(value)}; give Sfumato's own, an NSFWFilter, a function (images, clip_input) → (images, flags), or None"
    )


def described(value: Any) -> str:
    """What a value is, in a message: its class, and the library that made it."""
    if value is None:
        return "None"
    kind = value if isinstance(value, type) else type(value)
    library = kind.__module__.partition(".")[0]
    made = f" of {library}" if library not in ("builtins", "__main__", "sfumato") else ""
    return f"{'the class ' if isinstance(value, type) else 'a '}{kind.__name__}{made}"


def check_fit(unet: AnyUNet, vae: AutoencoderKL | TinyAutoencoder, encoders: Mapping[str, CLIPTextEncoder]) -> None:
    """Raise ConfigError unless the U-Net writes the VAE's latents, is of a known family, and reads what the text encoders write."""
    family = detect_family(unet.config).family
    config, latent = unet.config, vae.config.latent_channels
    if config.latent_channels != latent:
        raise ConfigError(
            f"this model's U-Net writes {config.latent_channels} channels, but its VAE's latents have {latent}; take both from one model"
        )
    width = sum(encoder.config.width for encoder in encoders.values())
    if config.context_dim != width:
        theirs = "its text encoder's is" if len(encoders) == 1 else f"its {len(encoders)} text encoders' is"
        raise ConfigError(
            f"this model's U-Net reads a context {config.context_dim} wide, but {theirs} {width} wide; take both from one model"
        )
    if isinstance(config, UNetConfig) and config.sizes_width is not None:
        numbers = 5 if family.aesthetic else 6
        pooled = list(encoders.values())[-1].config.projection_dim or 0
        if config.sizes_width != pooled + numbers * config.size_width:
            raise ConfigError(
                f"this model's U-Net is told {config.sizes_width} numbers beside the text: a pooled text "
                f"{config.sizes_width - numbers * config.size_width} wide; its text encoder's is {pooled} wide"
            )
