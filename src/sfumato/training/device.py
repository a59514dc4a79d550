"""Where a run computes, and how exactly."""

from contextlib import AbstractContextManager

import torch

from sfumato.errors import TrainingError
from sfumato.training.config import RunConfig


def device_of(config: RunConfig) -> torch.device:
    """The device that a config asks for, made ready: "auto" is a GPU where there is one.

    On a GPU, float32 products are rounded to TF32, as is usual in training: it doesn't change what is learned, but a run is not the same
    to the last bit there.
    Raises TrainingError when CUDA is asked for and there is none.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError(
            'device is "cuda", but PyTorch finds no CUDA device; set device = "auto" in the config, or mend the driver.'
        )
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda", torch.cuda.current_device())


def arithmetic(config: RunConfig, device: torch.device) -> AbstractContextManager[object]:
    """The context in which networks compute: in bfloat16 where the config says so. Weights, loss and optimizer stay float32."""
    # No weight is used twice in a training step, so none is kept rounded; a recorded CUDA graph could not keep it.
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False)
