"""Opening and saving a pipeline: folders and hub ids ⇄ parts."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato import bundled_model
from sfumato.checkpoints import fetch, open_folder, save_folder
from sfumato.errors import ConfigError, MissingFileError, UnsupportedError, UsageError
from sfumato.pipeline.placement import parse_dtype
from sfumato.pipeline.source import Source
from sfumato.schedulers import scheduler_from_config
from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

NETWORKS = ("unet", "vae", "text_encoder", "safety_checker")
PARTS = (*NETWORKS, "tokenizer", "scheduler", "feature_extractor")
HUB_OPTIONS = ("revision", "token", "use_auth_token", "local_files_only", "cache_dir")
HARMLESS = ("low_cpu_mem_usage", "use_safetensors", "resume_download")
"""Options of diffusers that can be granted by doing nothing: memory is always spared, safetensors always read."""

BUNDLED = "sfumato/bundled"
DEFAULTS_FILE = "sfumato.json"
RECOMMENDED = ("num_inference_steps", "guidance_scale", "height", "width")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a folder or hub id gave: the pipeline's constructor arguments, recommended settings, and where it all came from."""

    parts: dict[str, Any]
    defaults: dict[str, Any]
    source: Source


def open_parts(name: str | os.PathLike[str], options: Mapping[str, Any]) -> Opened:
    """Open a folder or hub id; the options are those of `from_pretrained`.

    Raises CheckpointError for a model that can't be opened, UsageError for options that can't be honoured.
    """
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
        "safety_checker": folder.safety_checker,
        "tokenizer": None if "tokenizer" in overrides else Tokenizer.from_folder(folder.tokenizer_dir),
        "scheduler": None if "scheduler" in overrides else scheduler_from_config(folder.scheduler_config),
        "feature_extractor": folder.feature_extractor,
        **overrides,
    }
    absent = [part for part in PARTS if parts[part] is None and part not in ("safety_checker", "feature_extractor")]
    if absent:
        raise UsageError(f"{' and '.join(absent)} can't be None; leave the option out to use the model's own")
    if "safety_checker" in overrides and parts["safety_checker"] is None and (path / "safety_checker").is_dir():
        logger.warning("the safety checker is off: pictures are not filtered")
    parts["requires_safety_checker"] = requires_checker
    networks = {part: getattr(folder, part) for part in ("unet", "vae", "text_encoder")}
    return Opened(parts, read_defaults(path), Source.of(known_as(name, path), folder.weights, networks))


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


def known_as(name: str | os.PathLike[str], path: Path) -> str:
    """What recipes call a model: a hub id as it is, a folder by its own name; where it lies is nobody else's business."""
    if path.resolve() == bundled_model().resolve():
        return BUNDLED
    return path.resolve().name if Path(name).expanduser().is_dir() else str(name)


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


def save_parts(parts: Mapping[str, Any], path: Path, *, variant: str | None, options: Mapping[str, Any]) -> None:
    """Write a pipeline's components as a folder in the diffusers layout. Raises OutputError, or UnsupportedError."""
    for option, value in options.items():
        if option != "safe_serialization" and value:
            raise UnsupportedError(f"save_pretrained does not know the option {option}={value!r}; leave it out")
    if options.get("safe_serialization") is False:
        raise UnsupportedError("save_pretrained writes safetensors only; leave out safe_serialization=False")
    save_folder(
        path,
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer_files=parts["tokenizer"].save,
        scheduler_config=dict(parts["scheduler"].config),
        safety_checker=parts["safety_checker"],
        feature_extractor=parts["feature_extractor"],
        variant=variant,
    )
