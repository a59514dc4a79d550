"""Opening the model that a command works with."""

from pathlib import Path
from typing import Any

import torch

from sfumato.bundle import bundled_model
from sfumato.cli.terminal import say_note, warnings_said
from sfumato.errors import OptionError
from sfumato.pipeline import NSFWFilter, StableDiffusionPipeline
from sfumato.pipeline.loading import BUNDLED


def open_model(
    model: str | Path | None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    safety: str | None = None,
    safety_threshold: float | None = None,
    memory: str | None = None,
    download: bool = True,
) -> StableDiffusionPipeline:
    """The pipeline of a model folder, model file or hub id, of the bundled model when none is named; ready on its device, with no bar of its own.

    `safety` is what becomes of pictures that look unsafe, and `memory` the most memory to take on a CPU, as `from_pretrained` takes them.
    Without `download`, a hub id is opened from the hub's cache only. Unset, the device is an accelerator if there is one, and the dtype is float16 there and float32 on a CPU.
    Raises CheckpointError for a model that can't be opened, OptionError for a device or dtype that isn't there.
    """
    device = device or ("cpu" if memory is not None else usual_device())
    if memory is not None and device != "cpu":
        raise OptionError(f"--memory is kept on a CPU alone, and --device is {device}; leave one of them out")
    dtype = dtype or ("float32" if device == "cpu" else "float16")
    options: dict[str, Any] = {"safety": safety, "safety_threshold": safety_threshold, "memory": memory}
    with warnings_said():
        pipe = StableDiffusionPipeline.from_pretrained(
            model or bundled_model(), torch_dtype=dtype, variant=variant, local_files_only=not download, **options
        )
        pipe = pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def judged_by_default(pipe: StableDiffusionPipeline, judge: NSFWFilter, *, said: bool) -> None:
    """Let the filter judge a model that brings no safety checker, to flag its pictures and change nothing.

    The bundled model's are not judged: it draws stickers, of things that are all on a list. `said`: whether the filter's threshold was
    asked for, so that it is told when it is not used.
    """
    if pipe.safety_checker is None and pipe.source.origin.name != BUNDLED:
        pipe.safety_checker, pipe.safety_mode = judge, "flag"
    elif said and pipe.safety_checker is not None:
        say_note("the model's own safety checker judges, by thresholds of its own; --safety-threshold is not used")
    elif said:
        say_note("the bundled model's pictures are judged only with --safety; --safety-threshold is not used")


def usual_device() -> str:
    """ "cuda" or "mps" where PyTorch can use one, else "cpu"."""
    return next(device for device in ("cuda", "mps", "cpu") if has_device(device))


def has_device(device: str) -> bool:
    """Whether PyTorch can use that kind of device here."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device, False)
