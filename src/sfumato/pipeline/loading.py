"""Opening and saving a pipeline: folders and hub ids ⇄ parts."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.bundle import bundled_model
from sfumato.checkpoints import Card, fetch, open_folder, save_folder
from sfumato.checkpoints.card import FILES
from sfumato.checkpoints.folder import INDEX
from sfumato.checkpoints.hub import is_hub_id
from sfumato.errors import MissingFileError, OutputError, UnsupportedError, UsageError
from sfumato.models.safety_checker import SafetyChecker
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.parts import unwrapped
from sfumato.pipeline.placement import parse_dtype
from sfumato.pipeline.safety_choice import SafetyChoice
from sfumato.pipeline.source import Source
from sfumato.schedulers import scheduler_from_config
from sfumato.text.tokenizer import Tokenizer

logger = logging.getLogger("sfumato")

NETWORKS = ("unet", "vae", "text_encoder", "safety_checker")
PARTS = (*NETWORKS, "tokenizer", "scheduler", "feature_extractor")
HUB_OPTIONS = ("revision", "token", "use_auth_token", "local_files_only", "cache_dir")
HARMLESS = ("low_cpu_mem_usage", "use_safetensors", "resume_download")
"""Options of diffusers that can be granted by doing nothing: memory is always spared, safetensors always read.
Any other option that is off (None or False) asks for nothing."""

BUNDLED = "sfumato/bundled"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a folder or hub id gave: the pipeline's constructor arguments, what its makers say of it, and where it all came from."""

    parts: dict[str, Any]
    card: Card
    source: Source


def open_parts(name: str | os.PathLike[str], options: Mapping[str, Any]) -> Opened:
    """Open a folder or hub id; the options are those of `from_pretrained`.

    Raises CheckpointError for a model that can't be opened, UsageError for options that can't be honoured.
    """
    options = dict(options)
    safety = SafetyChoice.take(options)
    overrides = {part: options.pop(part) for part in PARTS if part in options}
    requires_checker = options.pop("requires_safety_checker", True)
    dtype, variant, hub = take_options(options)
    path = local_folder(name, hub, variant=variant)
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
    parts["safety_checker"] = safety.judge(parts["safety_checker"])
    parts["safety_mode"] = safety.mode or "block"
    networks = {part: getattr(folder, part) for part in ("unet", "vae", "text_encoder")}
    return Opened(parts, Card.read(path), Source.of(known_as(name, path), folder.weights, networks))


def take_options(options: dict[str, Any]) -> tuple[torch.dtype | None, str | None, dict[str, Any]]:
    """The dtype (None: the file's), the variant and the hub's options of a `from_pretrained`, taken out of `options`.

    Raises UnsupportedError for one left that is not off, OptionError for a dtype that no picture is computed in.
    """
    dtypes = [options.pop(option, None) for option in ("dtype", "torch_dtype")]
    dtype = parse_dtype(next((given for given in dtypes if given is not None), None))
    variant = options.pop("variant", None)
    hub = {option: options.pop(option) for option in HUB_OPTIONS if option in options}
    if options.get("use_safetensors") is False:
        raise UnsupportedError("only safetensors weights are read; leave out use_safetensors=False")
    for option, value in options.items():
        if option not in HARMLESS and value is not None and value is not False:
            raise UnsupportedError(f"from_pretrained does not know the option {option}={value!r}; leave it out")
    return dtype, variant, hub


def local_folder(
    name: str | os.PathLike[str],
    hub: Mapping[str, Any],
    *,
    variant: str | None = None,
    only: Sequence[str] | None = None,
    needed: str = INDEX,
) -> Path:
    """The folder of that path, or that a hub id's files are fetched into; `hub` are options of HUB_OPTIONS.

    Raises MissingFileError where there is none, UnsupportedError for a single file, and as `fetch`.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if hub.get("revision") is not None:
            logger.warning("%s is a folder of this machine: revision=%r was not needed", path, hub["revision"])
        return path
    text = os.fspath(name)
    if path.exists():
        raise UnsupportedError(
            f"{text!r} is a file; from_pretrained opens model folders, and single files are not supported yet"
        )
    if not is_hub_id(name):
        raise MissingFileError(f"there is no model folder {text!r}; give the folder that holds {needed}, or a hub id")
    return fetch(
        text,
        revision=hub.get("revision"),
        variant=variant,
        token=hub["token"] if hub.get("token") is not None else hub.get("use_auth_token"),
        local_files_only=bool(hub.get("local_files_only", False)),
        cache_dir=hub.get("cache_dir"),
        only=only,
    )


def known_as(name: str | os.PathLike[str], path: Path) -> str:
    """What recipes call a model: a hub id as it is, a folder by its own name; where it lies is nobody else's business."""
    if path.resolve() == bundled_model().resolve():
        return BUNDLED
    return path.resolve().name if Path(name).expanduser().is_dir() else str(name)


def save_parts(
    parts: Mapping[str, Any],
    card: Card,
    path: Path,
    *,
    variant: str | None,
    overwrite: bool,
    options: Mapping[str, Any],
) -> None:
    """Write a pipeline's components, and what is said of it, as a folder in the diffusers layout.

    With `overwrite`, a folder that holds a model and nothing besides is replaced, whole or not at all.
    Raises OutputError, or UnsupportedError for an option that is not honoured.
    """
    for option, value in options.items():
        if option != "safe_serialization" and value:
            raise UnsupportedError(f"save_pretrained does not know the option {option}={value!r}; leave it out")
    if not options.get("safe_serialization", True):
        raise UnsupportedError("save_pretrained writes safetensors only; leave out safe_serialization=False")
    if overwrite and path.is_dir():
        _check_replaceable(path)
    checker = parts["safety_checker"]
    if checker is not None and not isinstance(unwrapped(checker), SafetyChecker):
        if not isinstance(checker, NSFWFilter):
            logger.warning(
                "the function in the safety checker's place is not saved; the model is saved without a checker"
            )
        checker = None

    save_folder(
        path,
        unet=unwrapped(parts["unet"]),
        vae=unwrapped(parts["vae"]),
        text_encoder=unwrapped(parts["text_encoder"]),
        tokenizer_files=parts["tokenizer"].save,
        scheduler_config=dict(parts["scheduler"].config),
        safety_checker=unwrapped(checker),
        feature_extractor=parts["feature_extractor"],
        extra_files=card.files(),
        variant=variant,
        overwrite=overwrite,
    )


def _check_replaceable(path: Path) -> None:
    """Raise OutputError if a model's folder holds something that replacing the model would lose."""
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in (*PARTS, INDEX, *FILES))
    if others and (path / INDEX).is_file():
        raise OutputError(
            f"{path} holds more than a model ({', '.join(others[:3])}), which saving there would remove; give another folder"
        )
