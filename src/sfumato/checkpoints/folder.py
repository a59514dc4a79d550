"""A whole model as a folder in the diffusers layout: one folder per component, and an index that lists them."""

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, UNET, VAE, Component, write_json
from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.weights import find_weights, has_weights, sha256
from sfumato.errors import CheckpointError, ConfigError, MissingFileError, OptionError, OutputError
from sfumato.files import as_output_error
from sfumato.models import AutoencoderKL, CLIPTextEncoder, SafetyChecker, UNet

INDEX = "model_index.json"
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
COMPONENTS: tuple[Component[Any, Any], ...] = (UNET, VAE, TEXT_ENCODER, SAFETY_CHECKER)
NETWORKS = tuple(component.name for component in COMPONENTS)

logger = logging.getLogger("sfumato")

# Classes that an index may name for each component; None for any: of schedulers `sfumato.schedulers` knows which, the feature
# extractor goes by its config whatever it is called, and only an image prompt adapter looks through the image encoder.
CLASSES: dict[str, tuple[str, ...] | None] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "safety_checker": ("StableDiffusionSafetyChecker",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "feature_extractor": None,
    "scheduler": None,
    "image_encoder": None,
}


@dataclass(frozen=True, kw_only=True)
class LoadedFolder:
    """What a folder holds. A network is None if it was not asked for or, the safety checker only, if there is none."""

    path: Path
    unet: UNet | None
    vae: AutoencoderKL | None
    text_encoder: CLIPTextEncoder | None
    safety_checker: SafetyChecker | None
    tokenizer_dir: Path
    scheduler_config: dict[str, Any]
    feature_extractor: dict[str, Any] | None
    """How to prepare a picture for the safety checker."""
    missing: tuple[str, ...]
    """Optional components that the index lists and the folder does not hold."""
    weights: "WeightFiles"
    """The weights of the networks opened that draw: U-Net, text encoder, VAE."""

    @property
    def sha256(self) -> str:
        """Digest of the weights that an image depends on, which names the model in a recipe; see `WeightFiles.sha256`."""
        return self.weights.sha256


@dataclass(frozen=True)
class WeightFiles:
    """The files that networks were opened from, each with its time of change (nanoseconds); they can be hashed later."""

    folder: Path
    files: tuple[tuple[Path, int], ...]

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the files' bytes, one after another, so that a model with another VAE is another model; "" of none.

        Reads them all, once. Raises CheckpointError if the files are no longer those that were opened.
        """
        if not self.files:
            return ""
        try:
            digest = sha256([path for path, _ in self.files])
        except OSError:
            digest = None
        if digest is None or any(changed(path) != time for path, time in self.files):
            raise CheckpointError(f"{self.folder} was replaced after it was opened; open it again")
        return digest


def changed(path: Path) -> int:
    """When a file was last changed, in nanoseconds; 0 if it is gone."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def open_folder(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    components: Collection[str] | None = None,
) -> LoadedFolder:
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
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if name not in index:
            raise ConfigError(
                f"{path / INDEX} lists no {name}; expected a model with {', '.join(NETWORKS[:3])}, tokenizer and scheduler"
            )

    missing = tuple(
        name for name in ("safety_checker", "feature_extractor") if name in index and not (path / name).is_dir()
    )

    opened = [part.name for part in COMPONENTS if part.name in wanted & index.keys() and part.name not in missing]
    variants = variants_in(path, opened, variant)

    def network(component: Component[Any, Network]) -> Network | None:
        name = component.name
        if name not in opened:
            return None
        return component.open(path / name, dtype=dtype, variant=variants[name], kind=index[name])

    # Looked at before they are opened: were they replaced in between, the digest is refused rather than wrong.
    drawing = [component for component in (UNET, TEXT_ENCODER, VAE) if component.name in wanted]
    files = [
        file for part in drawing for file in find_weights(folder_in(path, part.name), part.stem, variants[part.name])
    ]
    times = tuple((file, changed(file)) for file in files)
    with_feature_extractor = "feature_extractor" in index and "feature_extractor" not in missing
    return LoadedFolder(
        path=path,
        unet=network(UNET),
        vae=network(VAE),
        text_encoder=network(TEXT_ENCODER),
        safety_checker=network(SAFETY_CHECKER),
        tokenizer_dir=folder_in(path, "tokenizer"),
        # The index decides on the class: old configs name none, and where the two disagree diffusers follows the index.
        scheduler_config=read_json(path / "scheduler" / "scheduler_config.json") | {"_class_name": index["scheduler"]},
        feature_extractor=read_json(path / "feature_extractor" / "preprocessor_config.json")
        if with_feature_extractor
        else None,
        missing=missing,
        weights=WeightFiles(path, times),
    )


Network = TypeVar("Network", bound=nn.Module)


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


def read_index(path: Path) -> dict[str, str]:
    """The class of each component that a model's index lists. Raises MissingFileError, CorruptFileError or ConfigError."""
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; expected a folder in the diffusers layout")
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file; expected a folder in the diffusers layout, with a {INDEX}")
    if not (path / INDEX).is_file():
        raise MissingFileError(f"{path} has no {INDEX}; expected a folder in the diffusers layout")
    values = read_json(path / INDEX)
    if (pipeline := values.get("_class_name")) not in PIPELINES:
        raise ConfigError(f"{path / INDEX}: _class_name is {pipeline!r}; Sfumato opens {', '.join(PIPELINES)}")
    index: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, list):
            continue  # an option of the pipeline, such as requires_safety_checker
        kind = next(reversed(cast("list[object]", value)), None)
        if kind is None:
            continue  # listed, and not there
        known = CLASSES.get(name, ())
        if not isinstance(kind, str) or (known is not None and kind not in known):
            expected = " or ".join(known) if known else "no such component"
            raise ConfigError(
                f"{path / INDEX}: {name} is {kind!r}, which Sfumato does not implement; expected {expected}"
            )
        index[name] = kind
    return index


def folder_in(path: Path, name: str) -> Path:
    """The folder of a component. Raises MissingFileError."""
    if not (path / name).is_dir():
        raise MissingFileError(f"{path / name} is missing, though {INDEX} lists it; download the model again")
    return path / name


def save_folder(
    path: Path | str,
    *,
    unet: UNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextEncoder,
    tokenizer_files: Path | Callable[[Path], object],
    scheduler_config: Mapping[str, Any],
    safety_checker: SafetyChecker | None = None,
    feature_extractor: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    overwrite: bool = False,
) -> None:
    """Save a model so that diffusers opens it too: written beside `path` first, then moved there whole.

    `tokenizer_files` is a folder whose files are copied, or a function that writes them into a folder, such as a tokenizer's `save`.
    `extra_files` are written beside the networks, by name: a card's, say, so that the model never is there without them. `dtype` converts the weights. With `overwrite`, a model that is already there is replaced; anything else never is.
    Raises OutputError if something is there or can't be written, ConfigError for a scheduler config without its class, OptionError
    for an extra file whose name is the layout's, or none.
    """
    path = Path(path).resolve()
    extra_files = extra_files or {}
    for name in extra_files:
        if Path(name).name != name or name in ("", "..", INDEX, *CLASSES):
            raise OptionError(
                f"an extra file can't be called {name!r}; give a plain file name that no part of a model has"
            )
    scheduler = scheduler_config.get("_class_name")
    if not isinstance(scheduler, str):
        raise ConfigError(
            f"the scheduler config has no _class_name; expected one such as 'PNDMScheduler', got {scheduler!r}"
        )
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (overwrite and (path / INDEX).is_file()))):
        raise OutputError(
            f"{path} exists and is not empty; give another path, or overwrite=True if it is a model to replace"
        )

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent) as scratch:
            made = Path(scratch) / "new"
            made.mkdir()
            UNET.save(unet, made / "unet", dtype=dtype, variant=variant)
            VAE.save(vae, made / "vae", dtype=dtype, variant=variant)
            TEXT_ENCODER.save(text_encoder, made / "text_encoder", dtype=dtype, variant=variant)
            if safety_checker is not None:
                SAFETY_CHECKER.save(safety_checker, made / "safety_checker", dtype=dtype, variant=variant)
                (made / "feature_extractor").mkdir()
                write_json(
                    made / "feature_extractor" / "preprocessor_config.json",
                    feature_extractor or clip_preprocessing(safety_checker.config.vision.image_size),
                )
            if isinstance(tokenizer_files, Path):
                shutil.copytree(tokenizer_files, made / "tokenizer")
            else:
                (made / "tokenizer").mkdir()
                tokenizer_files(made / "tokenizer")
            (made / "scheduler").mkdir()
            write_json(made / "scheduler" / "scheduler_config.json", scheduler_config)
            write_json(made / INDEX, index_of(text_encoder, scheduler, safe=safety_checker is not None))
            for name, contents in extra_files.items():
                with as_output_error(path / name), open(made / name, "xb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
            move_into_place(made, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}; nothing was left behind") from error


def clip_preprocessing(size: int) -> dict[str, Any]:
    """How a picture is prepared for CLIP's image encoder, as a `preprocessor_config.json` says it: `size` pixels high and wide.

    Source: Radford et al. 2021, arXiv:2103.00020, in their code: the mean and deviation are those of the training pictures.
    """
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }


def move_into_place(made: Path, path: Path) -> None:
    """Put a finished folder where it belongs; what was there goes aside, and comes back whatever fails or interrupts. Raises OSError."""
    # Beside the folder, not in the scratch one: that is deleted when an interrupt unwinds, and the only copy must not go with it.
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}.old")
    try:
        if path.exists():
            path.replace(aside)
        made.replace(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def index_of(text_encoder: CLIPTextEncoder, scheduler: str, *, safe: bool) -> dict[str, Any]:
    """The index of a saved model: for each component, the library and class by which diffusers opens it."""
    projected = text_encoder.config.projection_dim is not None
    return {
        "_class_name": PIPELINES[0],
        # The oldest release of diffusers whose names we write.
        "_diffusers_version": "0.13.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"] if safe else [None, None],
        "requires_safety_checker": safe,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"] if safe else [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
