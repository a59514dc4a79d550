"""The autoencoder by itself, as people open one to put it in the place of a model's own."""

import os
from typing import Any

from sfumato import models
from sfumato.checkpoints.components import VAE
from sfumato.pipeline.loading import local_folder, take_options


class AutoencoderKL(models.AutoencoderKL):
    """The network of `sfumato.models`, which knows no files, and how it is opened from them.

    pipe = StableDiffusionPipeline.from_pretrained(model, vae=AutoencoderKL.from_pretrained(another, subfolder="vae"))
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *, subfolder: str | None = None, **options: Any
    ) -> models.AutoencoderKL:
        """Open the autoencoder in a folder, or of a model of the hub by its id; in a `subfolder` of it where it is a part.

        Options: `torch_dtype` or `dtype`, `variant`, and those of the hub, as `StableDiffusionPipeline.from_pretrained` takes them.
        Raises CheckpointError for what can't be opened, UnsupportedError for an option that is not honoured.
        """
        dtype, variant, hub = take_options(options)
        inside = f"{subfolder}/" if subfolder else ""
        weights = f"{VAE.stem}.{variant}" if variant else VAE.stem
        only = [f"{inside}config.json", f"{inside}{weights}.safetensors"]
        path = local_folder(pretrained_model_name_or_path, hub, variant=variant, only=only, needed="config.json")
        return VAE.open(path / (subfolder or ""), dtype=dtype, variant=variant)
