"""What may be put into a pipeline as one of its parts: Sfumato's own, and what can be made into them."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from sfumato.errors import ConfigError, UnsupportedError
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.safety_checker import SafetyChecker
from sfumato.models.unet import UNet
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.safety_choice import check_mode
from sfumato.schedulers import SCHEDULERS, Scheduler, UnavailableScheduler, scheduler_from_config
from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

KINDS: dict[str, type] = {
    "unet": UNet,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextEncoder,
    "tokenizer": Tokenizer,
}


def as_part(name: str, value: Any) -> Any:
    """The value as a pipeline takes it for its part `name`; what is no part of a pipeline passes as it is.

    Schedulers of diffusers become Sfumato's, and so do the settings of a feature extractor of transformers.
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


def check_fit(unet: UNet, vae: AutoencoderKL, text_encoder: CLIPTextEncoder) -> None:
    """Raise ConfigError unless the U-Net reads and writes the VAE's latents and reads the text encoder's context."""
    reads, writes, latent = unet.config.in_channels, unet.config.out_channels, vae.config.latent_channels
    if (reads, writes) != (latent, latent):
        raise ConfigError(
            f"this model's U-Net reads {reads} channels and writes {writes}, but its VAE's latents have {latent}: it is no "
            "text-to-image model (9 channels are inpainting, 8 editing), and other kinds are not available yet"
        )
    if unet.config.context_dim != text_encoder.config.width:
        raise ConfigError(
            f"this model's U-Net reads a context {unet.config.context_dim} wide, but its text encoder's is "
            f"{text_encoder.config.width} wide; take both from one model"
        )
