"""Opening the model that a command works with."""

from pathlib import Path
from typing import Any

import torch

from sfumato.bundle import bundled_model
from sfumato.cli.terminal import warnings_said
from sfumato.pipeline import StableDiffusionPipeline


def open_model(
    model: str | Path | None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    safety: bool = True,
    download: bool = True,
) -> StableDiffusionPipeline:
    """The pipeline of a model folder or hub id, of the bundled model when none is named; ready on its device, with no bar of its own.

    Without `download`, a hub id is opened from the hub's cache only. Unset, the device is an accelerator if there is one, and the dtype is float16 there and float32 on a CPU.
    Raises CheckpointError for a model that can't be opened, OptionError for a device or dtype that isn't there.
    """
    device = device or usual_device()
    dtype = dtype or ("float32" if device == "cpu" else "float16")
    options: dict[str, Any] = {} if safety else {"safety_checker": None}
    with warnings_said():
        pipe = StableDiffusionPipeline.from_pretrained(
            model or bundled_model(), torch_dtype=dtype, variant=variant, local_files_only=not download, **options
        )
        pipe = pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def usual_device() -> str:
    """ "cuda" or "mps" where PyTorch can use one, else "cpu"."""
    return next(device for device in ("cuda", "mps", "cpu") if has_device(device))


def has_device(device: str) -> bool:
    """Whether PyTorch can use that kind of device here."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device, False)
