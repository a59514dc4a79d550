"""Opening, saving and placing a pipeline: folders and hub ids in, parts out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sfumato.checkpoints import LoadedFolder, fetch, open_folder, save_folder
from sfumato.errors import ConfigError, MissingFileError, OptionError, UnsupportedError
from sfumato.schedulers import scheduler_from_config
from sfumato.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

logger = logging.getLogger("sfumato")

NETWORKS = ("unet", "vae", "text_encoder", "safety_checker")
PARTS = (*NETWORKS, "tokenizer", "scheduler", "feature_extractor")
HUB_OPTIONS = ("revision", "token", "use_auth_token", "local_files_only", "cache_dir", "force_download", "proxies")
HARMLESS = ("low_cpu_mem_usage", "use_safetensors", "requires_safety_checker", "resume_download", "add_watermarker")
"""Options of diffusers that can be granted by doing nothing: memory is always spared, safetensors always read."""

DEFAULTS_FILE = "sfumato.json"
RECOMMENDED = ("num_inference_steps", "guidance_scale", "height", "width")


@dataclass(slots=False)
class Source:
    """Where a pipeline's weights came from: the name a recipe records, and the hash of the files, taken when first needed."""

    name: str = "unsaved"
    folder: LoadedFolder | None = None

    @cached_property
    def sha256(self) -> str:
        """sha256 over the weights files of the model; "" for one that was never opened from files."""
        return "" if self.folder is None else self.folder.sha256


def open_pipeline(
    kind: type[StableDiffusionPipeline], name: str | os.PathLike[str], options: Mapping[str, Any]
) -> StableDiffusionPipeline:
    """Build a pipeline from a folder or hub id; the options are those of `from_pretrained`."""
    options = dict(options)
    overrides = {part: options.pop(part) for part in PARTS if part in options}
    dtype = parse_dtype(options.pop("dtype", None) or options.pop("torch_dtype", None))
    options.pop("torch_dtype", None)
    variant = options.pop("variant", None)
    hub = {option: options.pop(option) for option in HUB_OPTIONS if option in options}
    requires_checker = options.pop("requires_safety_checker", True)
    for option, value in options.items():
        if option not in HARMLESS and value is not None:
            raise UnsupportedError(f"from_pretrained does not know the option {option}={value!r}; leave it out")

    path = _local(name, variant, hub)
    folder = open_folder(path, dtype=dtype, variant=variant, components=set(NETWORKS) - overrides.keys())
    for part in folder.missing:
        logger.warning("the model lists a %s but its folder is not there; going on without", part)
    parts: dict[str, Any] = {
        "unet": folder.unet,
        "vae": folder.vae,
        "text_encoder": folder.text_encoder,
        "tokenizer": None
        if overrides.get("tokenizer")
        else Tokenizer.from_folder(folder.tokenizer_dir or path / "tokenizer"),
        "scheduler": None if overrides.get("scheduler") else scheduler_from_config(folder.scheduler_config or {}),
        "safety_checker": folder.safety_checker,
        "feature_extractor": folder.feature_extractor,
    }
    parts |= overrides
    missing = [part for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler") if parts[part] is None]
    if missing:
        raise MissingFileError(
            f"the model {str(name)!r} has no {', '.join(missing)}; pass one as an option or use another folder"
        )
    if "safety_checker" in overrides and parts["safety_checker"] is None and (path / "safety_checker").is_dir():
        logger.warning("the safety checker is off: pictures are not filtered")
    pipe = kind(**parts, requires_safety_checker=requires_checker)
    pipe.defaults = read_defaults(path)
    pipe.source = Source(str(name), folder)
    return pipe


def _local(name: str | os.PathLike[str], variant: str | None, hub: dict[str, Any]) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    text = os.fspath(name)
    if path.exists():
        raise UnsupportedError(
            f"{text!r} is a file; from_pretrained opens model folders, and single files are not supported yet"
        )
    if not isinstance(name, str) or text.startswith((".", "~", os.sep)) or text.count("/") > 1 or not text:
        raise MissingFileError(
            f"there is no model folder {text!r}; give the folder that holds model_index.json, or a hub id"
        )
    token = hub.pop("token", None) or hub.pop("use_auth_token", None)
    hub.pop("use_auth_token", None)
    return fetch(
        text,
        revision=hub.get("revision"),
        variant=variant,
        token=token,
        local_files_only=bool(hub.get("local_files_only", False)),
        cache_dir=hub.get("cache_dir"),
    )


def read_defaults(path: Path) -> dict[str, Any]:
    """What a model's own `sfumato.json` recommends: steps, guidance and size. Raises ConfigError if it is damaged."""
    file = path / DEFAULTS_FILE
    if not file.exists():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error}); restore it or delete it") from error
    if not isinstance(values, dict) or not all(isinstance(values.get(k, 1), int | float) for k in RECOMMENDED):
        raise ConfigError(f"{file} must hold numbers for {', '.join(RECOMMENDED)}; restore it or delete it")
    return {name: values[name] for name in RECOMMENDED if name in values}


def save_pipeline(
    pipe: StableDiffusionPipeline, path: Path, *, variant: str | None, options: Mapping[str, Any]
) -> None:
    """Write every part as a folder in the diffusers layout. Raises OutputError, or UnsupportedError for foreign options."""
    for option, value in options.items():
        if option != "safe_serialization" and value:
            raise UnsupportedError(f"save_pretrained does not know the option {option}={value!r}; leave it out")
    if options.get("safe_serialization") is False:
        raise UnsupportedError("save_pretrained writes safetensors only; leave out safe_serialization=False")
    save_folder(
        path,
        unet=pipe.unet,
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer_files=pipe.tokenizer.save,
        scheduler_config=dict(pipe.scheduler.config),
        safety_checker=pipe.safety_checker,
        feature_extractor=pipe.feature_extractor,
        variant=variant,
    )


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


def settle_precision(pipe: StableDiffusionPipeline) -> list[str]:
    """Make half-precision weights computable where they are, and say so.

    A CPU multiplies float16 matrices hundreds of times slower than float32 ones (docs/log.md), so weights that are still
    float16 on a CPU when a picture is asked for are widened, which changes no value of theirs.
    """
    if pipe.device.type != "cpu" or pipe.dtype != torch.float16:
        return []
    pipe.to(torch.float32)
    return ["float16 weights were widened to float32, because float16 arithmetic is far slower on a CPU"]
