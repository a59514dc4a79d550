"""Where a pipeline computes and in what: devices and dtypes as people write them."""

import torch

from sfumato.errors import OptionError


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A torch dtype of what people write: torch.float16, "float16", "fp16"; None (float32) and "auto" (the file's) pass.

    Raises OptionError for anything that is not a floating-point type.
    """
    names = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "half": "float16"}
    if isinstance(dtype, str):
        dtype = getattr(torch, names.get(dtype, dtype), None) or dtype
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        return None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise OptionError(f"dtype must be float32, float16 or bfloat16, not {dtype!r}")
    return dtype


def parse_target(
    *where: str | torch.device | torch.dtype,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    torch_device: str | torch.device | None = None,
    torch_dtype: torch.dtype | None = None,
) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and dtype of what was passed to `.to(…)`. Raises OptionError for a device this machine does not have."""
    device, dtype = device or torch_device, dtype or torch_dtype
    for value in where:
        if isinstance(value, torch.dtype):
            dtype = value
        else:
            device = value
    if device is None:
        return None, dtype
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise OptionError(f'unknown device {device!r}; use "cpu", "cuda", "cuda:1" or "mps"') from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise OptionError('this machine has no CUDA device that PyTorch can use; use .to("cpu")')
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError('this machine has no MPS device that PyTorch can use; use .to("cpu")')
    return target, dtype
