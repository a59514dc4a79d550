"""A whole model in a folder of the diffusers layout: one folder for each part, and an index that lists them."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, Component
from sfumato.checkpoints.families import Detected, detect_family
from sfumato.checkpoints.index import INDEX, Index, read_index
from sfumato.checkpoints.model import LoadedModel, WeightFiles, changed
from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.weights import find_weights, has_weights
from sfumato.errors import ConfigError, MissingFileError, OptionError
from sfumato.variants import FAMILIES

COMPONENTS: tuple[Component[Any, Any], ...] = (UNET, VAE, TEXT_ENCODER, TEXT_ENCODER_2, SAFETY_CHECKER)
NETWORKS = tuple(component.name for component in COMPONENTS)
DRAWING = (UNET, TEXT_ENCODER, TEXT_ENCODER_2, VAE)

logger = logging.getLogger("sfumato")

Network = TypeVar("Network", bound=nn.Module)


def open_folder(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    components: Collection[str] | None = None,
) -> LoadedModel:
    """Open a model: its networks in evaluation mode on the CPU, in `dtype` or in that of their files, mapped rather than read.

    `variant` picks weights such as "fp16" where a folder has several; a component without it is opened without, which the log says,
    if another has it. `components` names the networks wanted, by default all.
    Raises MissingFileError, CorruptFileError, UnsafeFileError, ConfigError, KeyMismatchError, or CheckpointError if memory does not suffice.
    """
    path = Path(path)
    index = read_index(path)
    wanted = frozenset(NETWORKS if components is None else components)
    if unknown := wanted - set(NETWORKS):
        raise OptionError(f"components names {', '.join(sorted(unknown))}; known: {', '.join(NETWORKS)}")
    check_parts(path, index)
    missing = tuple(
        name for name in ("safety_checker", "feature_extractor") if name in index.kinds and not (path / name).is_dir()
    )
    scheduler = read_scheduler(path, index, "scheduler")
    detected = detect(path, index, scheduler)

    opened = [part.name for part in COMPONENTS if part.name in wanted & index.kinds.keys() and part.name not in missing]
    variants = variants_in(path, opened, variant)

    def network(component: Component[Any, Network]) -> Network | None:
        name = component.name
        if name not in opened:
            return None
        return component.open(path / name, dtype=dtype, variant=variants[name], kind=index.kinds[name])

    # Looked at before they are opened: were they replaced in between, the digest is refused rather than wrong.
    drawing = [component for component in DRAWING if component.name in opened]
    files = [
        file for part in drawing for file in find_weights(folder_in(path, part.name), part.stem, variants[part.name])
    ]
    times = tuple((file, changed(file)) for file in files)
    with_feature_extractor = "feature_extractor" in index.kinds and "feature_extractor" not in missing
    return LoadedModel(
        path=path,
        detected=detected,
        unet=network(UNET),
        vae=network(VAE),
        text_encoder=network(TEXT_ENCODER),
        text_encoder_2=network(TEXT_ENCODER_2),
        safety_checker=network(SAFETY_CHECKER),
        tokenizers={name: folder_in(path, name) for name in ("tokenizer", "tokenizer_2") if name in index.kinds},
        scheduler_config=scheduler,
        low_res_scheduler=read_scheduler(path, index, "low_res_scheduler")
        if "low_res_scheduler" in index.kinds
        else None,
        feature_extractor=read_json(path / "feature_extractor" / "preprocessor_config.json")
        if with_feature_extractor
        else None,
        options=index.options,
        missing=missing,
        unread=index.unread,
        weights=WeightFiles(path, times),
    )


def check_parts(path: Path, index: Index) -> None:
    """Raise ConfigError unless an index lists what every model has: a text encoder, or the second of SDXL's, among it."""
    needed = ["unet", "vae", "scheduler"]
    if "text_encoder_2" not in index.kinds:
        needed += ["text_encoder", "tokenizer"]
    for part in ("text_encoder", "text_encoder_2"):
        if part in index.kinds:
            needed.append(part.replace("text_encoder", "tokenizer"))
    for name in needed:
        if name not in index.kinds:
            raise ConfigError(
                f"{path / INDEX} lists no {name}; expected a model with unet, vae, text_encoder, tokenizer and scheduler"
            )


def read_scheduler(path: Path, index: Index, name: str) -> dict[str, Any]:
    """The config of a scheduler. The index decides on its class: old configs name none, and diffusers follows the index."""
    return read_json(path / name / "scheduler_config.json") | {"_class_name": index.kinds[name]}


def detect(path: Path, index: Index, scheduler: dict[str, Any]) -> Detected:
    """The family of a model's folder. Raises ConfigError, or CorruptFileError, for a config of a U-Net that can't be read."""
    config = path / "unet" / "config.json"
    if not config.is_file():
        # Whoever brings another U-Net may have removed this one.
        family = next((family for family in FAMILIES.values() if family.pipeline == index.pipeline), FAMILIES["sd1"])
        return Detected(family, (f"its index names {index.pipeline}",))
    unet = UNET.read_config(read_json(config), str(config))
    try:
        return detect_family(
            unet,
            prediction=scheduler.get("prediction_type", "epsilon"),
            spacing=scheduler.get("timestep_spacing"),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def variants_in(path: Path, names: Collection[str], variant: str | None) -> dict[str, str | None]:
    """Which variant of each network to open: the one asked for, or none where only others have it; the log says so."""
    parts = [part for part in COMPONENTS if part.name in names]
    having = [part.name for part in parts if variant and has_weights(path / part.name, part.stem, variant)]
    variants: dict[str, str | None] = dict.fromkeys(names, variant)
    for part in parts:
        if having and part.name not in having and has_weights(path / part.name, part.stem, None):
            logger.warning("%s has no %s weights; opening those without a variant", path / part.name, variant)
            variants[part.name] = None
    return variants


def folder_in(path: Path, name: str) -> Path:
    """The folder of a component. Raises MissingFileError."""
    if not (path / name).is_dir():
        raise MissingFileError(f"{path / name} is missing, though {INDEX} lists it; download the model again")
    return path / name
