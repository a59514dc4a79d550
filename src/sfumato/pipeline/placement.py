"""Where a pipeline computes and in what: devices and dtypes as people write them."""

import torch

from sfumato.errors import OptionError

DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "float64")}
SHORT = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "half": "float16", "float": "float32"}
DEVICES = ("cpu", "cuda", "mps")


def check_dtype(dtype: object) -> torch.dtype:
    """A torch dtype of what people write: torch.float16, "float16", "fp16". Raises OptionError for what no picture is computed in."""
    named = DTYPES.get(SHORT.get(dtype, dtype), dtype) if isinstance(dtype, str) else dtype
    if not isinstance(named, torch.dtype) or named not in DTYPES.values():
        raise OptionError(f"dtype must be {', '.join(DTYPES)}, not {dtype!r}")
    return named


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """What `from_pretrained` was told: None is float32, and "auto" (the file's own) is returned as None.

    Raises OptionError as check_dtype.
    """
    if dtype is None:
        return torch.float32
    return None if isinstance(dtype, str) and dtype == "auto" else check_dtype(dtype)


def parse_target(
    *where: str | torch.device | torch.dtype | None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    torch_device: str | torch.device | None = None,
    torch_dtype: torch.dtype | str | None = None,
    non_blocking: bool = False,
    silence_dtype_warnings: bool = False,
) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and dtype of what was passed to `.to(…)`. The last two options of diffusers change no result.

    Raises OptionError for a device this machine does not have, or a dtype that no picture is computed in.
    """
    del non_blocking, silence_dtype_warnings
    device = torch_device if device is None else device
    dtype = torch_dtype if dtype is None else dtype
    for value in where:
        if isinstance(value, torch.dtype):
            dtype = value
        elif value is not None:
            device = value
    return None if device is None else check_device(device), None if dtype is None else check_dtype(dtype)


def check_device(device: object) -> torch.device:
    """The device, if this machine has it. Raises OptionError."""
    try:
        target = torch.device(device)  # pyright: ignore[reportArgumentType, reportCallIssue]
    except (RuntimeError, TypeError) as error:
        raise OptionError(f'unknown device {device!r}; use "cpu", "cuda", "cuda:1" or "mps"') from error
    if target.type not in DEVICES:
        raise OptionError(f'pictures are not made on {target.type!r} devices; use "cpu", "cuda", "cuda:1" or "mps"')
    if target.type == "cuda" and not torch.cuda.is_available():
        raise OptionError('this machine has no CUDA device that PyTorch can use; use .to("cpu")')
    if target.type == "cuda" and (target.index or 0) >= (count := torch.cuda.device_count()):
        raise OptionError(f"this machine has {count} CUDA devices, numbered from 0; there is no cuda:{target.index}")
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError('this machine has no MPS device that PyTorch can use; use .to("cpu")')
    return target
