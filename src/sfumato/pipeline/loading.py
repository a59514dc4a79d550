"""Opening and saving a pipeline: folders and hub ids ⇄ parts."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sfumato.bundle import bundled_model
from sfumato.checkpoints import Card, LoadedModel, fetch, open_folder, save_folder
from sfumato.checkpoints.card import FILES
from sfumato.checkpoints.families import detect_family
from sfumato.checkpoints.folder_saving import Carried
from sfumato.checkpoints.hub import is_hub_id
from sfumato.checkpoints.index import CLASSES, INDEX, UNREAD
from sfumato.checkpoints.single_file import open_single_file
from sfumato.engine.memory import Budget, parse_budget
from sfumato.errors import MissingFileError, OutputError, UnsupportedError, UsageError
from sfumato.models.latent_upscaler import LatentUpscaler
from sfumato.models.safety_checker import SafetyChecker
from sfumato.models.tiny_vae import TinyAutoencoder
from sfumato.models.unet import UNet
from sfumato.pipeline.nsfw_filter import NSFWFilter
from sfumato.pipeline.parts import unwrapped
from sfumato.pipeline.placement import parse_dtype
from sfumato.pipeline.safety_choice import SafetyChoice
from sfumato.pipeline.source import Source
from sfumato.pipeline.sparing import settle_weights
from sfumato.schedulers import scheduler_from_config
from sfumato.variants import Family

logger = logging.getLogger("sfumato")

NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker")
TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = (*NETWORKS, *TOKENIZERS, "scheduler", "feature_extractor")
HUB_OPTIONS = ("revision", "token", "use_auth_token", "local_files_only", "cache_dir")
HARMLESS = ("low_cpu_mem_usage", "use_safetensors", "resume_download", "add_watermarker", "load_safety_checker")
"""Options of diffusers that can be granted by doing nothing: memory is always spared, safetensors read where there are, pictures
never marked. Any other option that is off (None or False) asks for nothing."""
FILE_OPTIONS = ("family", "prediction_type", "original_config", "config")
"""Options of single files, as `open_single_file` takes them."""

BUNDLED = "sfumato/bundled"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a pipeline keeps of a model for saving it again: options of its pipeline in diffusers, and parts that are left alone."""

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    low_res_scheduler: Mapping[str, Any] | None = None
    carried: Mapping[str, Carried] = field(default_factory=dict[str, Carried])

    def with_options(self, options: Mapping[str, Any]) -> "Kept":
        """The same with these options as well."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True, slots=True)
class Opened:
    """What a folder, hub id or file gave: the pipeline's constructor arguments, what its makers say of it, and where it all came from."""

    parts: dict[str, Any]
    family: Family
    kept: Kept
    card: Card
    source: Source
    memory: Budget | None = None


# Weights made in inference mode don't count how often they are written, which tells a changed model (`source.changes_of`).
@torch.inference_mode(mode=False)
def open_parts(name: str | os.PathLike[str], options: Mapping[str, Any]) -> Opened:
    """Open a folder, a hub id or a single file; the options are those of `from_pretrained` and `from_single_file`.

    Raises CheckpointError for a model that can't be opened, UsageError for options that can't be honoured.
    """
    options = dict(options)
    safety = SafetyChoice.take(options)
    memory = parse_budget(options.pop("memory", None))
    overrides = {part: options.pop(part) for part in PARTS if part in options}
    requires_checker = options.pop("requires_safety_checker", True)
    wanted = set(NETWORKS) - overrides.keys()
    if is_file(name):
        path = Path(name).expanduser()
        alone = take_file_options(options)
        dtype, variant, _ = take_options(options)
        if variant is not None:
            raise UnsupportedError(f"{path} is one file, which has no variants; leave out variant={variant!r}")
        model = open_single_file(path, dtype=dtype if is_half(dtype) else None, components=wanted, **alone)
    else:
        dtype, variant, hub = take_options(options)
        path = local_folder(name, hub, variant=variant)
        model = open_folder(path, dtype=dtype if is_half(dtype) else None, variant=variant, components=wanted)
    if dtype is not None and not is_half(dtype):
        settle_weights({name: getattr(model, name) for name in NETWORKS}, dtype, memory)
    for part in model.missing:
        logger.warning("the model lists a %s but its folder is not there; going on without", part)
    if undecided := [reason for reason in model.detected.reasons if "taken for" in reason and model.unet is not None]:
        logger.warning("%s: %s; prediction_type=… or family=… says otherwise", path.name, undecided[0])

    parts = parts_of(model, overrides)
    unet = unwrapped(parts["unet"])
    # What no tensor says of the U-Net, its scheduler does, or the file; of another U-Net that was brought, nothing.
    family = (
        detect_family(unet.config).family
        if "unet" in overrides and isinstance(unet, UNet | LatentUpscaler)
        else model.family
    )
    check_absent(parts, family, path)
    if "safety_checker" in overrides and parts["safety_checker"] is None and (path / "safety_checker").is_dir():
        logger.warning("the safety checker is off: pictures are not filtered")
    parts["requires_safety_checker"] = requires_checker
    parts["safety_checker"] = safety.judge(parts["safety_checker"])
    parts["safety_mode"] = safety.mode or "block"
    carried = {part: Carried(path / part, entry) for part, entry in model.unread.items()}
    networks = {part: getattr(model, part) for part in NETWORKS[:-1]}
    return Opened(
        parts,
        family,
        Kept(model.options, model.low_res_scheduler, carried),
        Card.read(path) if path.is_dir() else model.card,
        Source.of(known_as(name, path), model.weights, networks),
        memory,
    )


def is_half(dtype: torch.dtype | None) -> bool:
    """Whether weights are to be rounded to a type that they may be stored wider than: they are as they are read."""
    return dtype is not None and dtype.itemsize < torch.float32.itemsize


def parts_of(model: LoadedModel, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments: what the caller brings, and the rest of the model."""
    parts: dict[str, Any] = {part: getattr(model, part) for part in NETWORKS}
    parts |= {name: None if name in overrides else model.tokenizer(name) for name in TOKENIZERS}
    parts["scheduler"] = None if "scheduler" in overrides else scheduler_from_config(model.scheduler_config)
    parts["feature_extractor"] = model.feature_extractor
    return parts | dict(overrides)


def check_absent(parts: Mapping[str, Any], family: Family, path: Path) -> None:
    """Raise UsageError for parts that the family needs and nobody gave, MissingFileError if a single file lacks them."""
    needed = ("unet", "vae", *family.text_encoders, *family.padding, "scheduler")
    absent = [part for part in needed if parts.get(part) is None]
    if absent and path.is_file():
        raise MissingFileError(
            f"{path} brings no {' and no '.join(absent)} that is known; pass {absent[0]}=… with that of another model of {family.title}"
        )
    if absent:
        raise UsageError(f"{' and '.join(absent)} can't be None; leave the option out to use the model's own")


def is_file(name: str | os.PathLike[str]) -> bool:
    """Whether this is a file of this machine."""
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError):
        return False


def take_file_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a single file, taken out of `options`; those of the hub ask for nothing here."""
    for option in (*HUB_OPTIONS, "force_download", "proxies"):
        options.pop(option, None)
    if (given := options.pop("original_config_file", None)) is not None:
        options["original_config"] = given
    averaged = bool(options.pop("extract_ema", False))
    return {option: options.pop(option, None) for option in FILE_OPTIONS} | {"averaged": averaged}


def take_options(options: dict[str, Any]) -> tuple[torch.dtype | None, str | None, dict[str, Any]]:
    """The dtype (None: the file's), the variant and the hub's options of a `from_pretrained`, taken out of `options`.

    Raises UnsupportedError for one left that is not off, OptionError for a dtype that no picture is computed in.
    """
    dtypes = [options.pop(option, None) for option in ("dtype", "torch_dtype")]
    dtype = parse_dtype(next((given for given in dtypes if given is not None), None))
    variant = options.pop("variant", None)
    hub = {option: options.pop(option) for option in HUB_OPTIONS if option in options}
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

    Raises MissingFileError where there is none, UnsupportedError for a file, and as `fetch`.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if hub.get("revision") is not None:
            logger.warning("%s is a folder of this machine: revision=%r was not needed", path, hub["revision"])
        return path
    text = os.fspath(name)
    if path.exists():
        raise UnsupportedError(
            f"{text!r} is a file; expected the folder that holds {needed}, or a hub id; from_single_file(…) opens files"
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
    """What recipes call a model: a hub id as it is, a folder or file by its own name; where it lies is nobody else's business."""
    if path.resolve() == bundled_model().resolve():
        return BUNDLED
    return path.resolve().name if Path(name).expanduser().exists() else str(name)


def save_parts(
    parts: Mapping[str, Any],
    card: Card,
    path: Path,
    *,
    kept: Kept,
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
    if isinstance(unwrapped(parts["vae"]), TinyAutoencoder):
        raise UnsupportedError(
            "a tiny autoencoder is not saved with a model; put the model's own back first: pipe.vae = …"
        )
    if overwrite and path.is_dir():
        _check_replaceable(path)
    checker = parts["safety_checker"]
    if checker is not None and not isinstance(unwrapped(checker), SafetyChecker):
        if not isinstance(checker, NSFWFilter):
            logger.warning(
                "the function in the safety checker's place is not saved; the model is saved without a checker"
            )
        checker = None

    tokenizers: dict[str, Any] = {
        f"{name}_files": parts[name].save for name in TOKENIZERS if parts.get(name) is not None
    }
    save_folder(
        path,
        unet=unwrapped(parts["unet"]),
        vae=unwrapped(parts["vae"]),
        text_encoder=unwrapped(parts["text_encoder"]),
        text_encoder_2=unwrapped(parts.get("text_encoder_2")),
        **tokenizers,
        scheduler_config=dict(parts["scheduler"].config),
        low_res_scheduler=kept.low_res_scheduler,
        safety_checker=unwrapped(checker),
        feature_extractor=parts["feature_extractor"],
        options=kept.options,
        carried={name: part for name, part in kept.carried.items() if part.folder.is_dir()},
        extra_files=card.files(),
        variant=variant,
        overwrite=overwrite,
    )


def _check_replaceable(path: Path) -> None:
    """Raise OutputError if a model's folder holds something that replacing the model would lose."""
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in (*CLASSES, *UNREAD, INDEX, *FILES))
    if others and (path / INDEX).is_file():
        raise OutputError(
            f"{path} holds more than a model ({', '.join(others[:3])}), which saving there would remove; give another folder"
        )
