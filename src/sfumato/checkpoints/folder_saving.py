"""Writing a model as a folder in the diffusers layout, whole or not at all."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, write_json
from sfumato.checkpoints.families import detect_family
from sfumato.checkpoints.filling import Change
from sfumato.checkpoints.index import CLASSES, INDEX, UNREAD, index_values
from sfumato.errors import ConfigError, OptionError, OutputError
from sfumato.files import as_output_error
from sfumato.models import AnyUNet, AutoencoderKL, CLIPTextEncoder, SafetyChecker
from sfumato.variants import Family

TokenizerFiles = Path | Callable[[Path], object]
"""A tokenizer's files: a folder that holds them, or what writes them into one."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A part that Sfumato leaves alone: its folder, and its entry in the index, library and class."""

    folder: Path
    entry: tuple[str, ...]


def save_folder(
    path: Path | str,
    *,
    unet: AnyUNet,
    vae: AutoencoderKL,
    scheduler_config: Mapping[str, Any],
    text_encoder: CLIPTextEncoder | None = None,
    tokenizer_files: TokenizerFiles | None = None,
    text_encoder_2: CLIPTextEncoder | None = None,
    tokenizer_2_files: TokenizerFiles | None = None,
    low_res_scheduler: Mapping[str, Any] | None = None,
    safety_checker: SafetyChecker | None = None,
    feature_extractor: Mapping[str, Any] | None = None,
    family: Family | None = None,
    options: Mapping[str, Any] | None = None,
    carried: Mapping[str, Carried] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    change: Change | None = None,
    overwrite: bool = False,
) -> None:
    """Save a model so that diffusers opens it too: written beside `path` first, then moved there whole.

    `tokenizer_files` is a folder whose files are copied, or a function that writes them into a folder, such as a tokenizer's `save`.
    `family` is told from the U-Net where it isn't given; it says which pipeline of diffusers the folder is for. `options` are that
    pipeline's. `carried` are parts that are copied as they are. `extra_files` are written beside the networks, by name: a card's, say,
    so that the model never is there without them. `dtype` converts the weights, after `change` is done to each by its name. With `overwrite`, a model that is already there is
    replaced; anything else never is.
    Raises OutputError if something is there or can't be written, ConfigError for a scheduler config without its class or a U-Net of no
    known family, OptionError for an extra file whose name is the layout's, or none.
    """
    path = Path(path).resolve()
    extra_files = extra_files or {}
    for name in extra_files:
        if Path(name).name != name or name in ("", "..", INDEX, *CLASSES, *UNREAD):
            raise OptionError(
                f"an extra file can't be called {name!r}; give a plain file name that no part of a model has"
            )
    schedulers = {"scheduler": scheduler_config}
    if low_res_scheduler is not None:
        schedulers["low_res_scheduler"] = low_res_scheduler
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    kinds |= {part: scheduler_class(config) for part, config in schedulers.items()}
    if family is None:
        said = {"prediction": "prediction_type", "spacing": "timestep_spacing"}
        family = detect_family(unet.config, **{name: scheduler_config.get(key) for name, key in said.items()}).family
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (overwrite and (path / INDEX).is_file()))):
        raise OutputError(
            f"{path} exists and is not empty; give another path, or overwrite=True if it is a model to replace"
        )

    try:
        with folder_written_whole(path) as made:
            made.mkdir()
            how: dict[str, Any] = {"dtype": dtype, "variant": variant, "change": change}
            UNET.save(unet, made / "unet", **how)
            VAE.save(vae, made / "vae", **how)
            for part, encoder in ((TEXT_ENCODER, text_encoder), (TEXT_ENCODER_2, text_encoder_2)):
                if encoder is not None:
                    part.save(encoder, made / part.name, **how)
                    projected = encoder.config.projection_dim is not None
                    kinds[part.name] = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
            if safety_checker is not None:
                SAFETY_CHECKER.save(safety_checker, made / "safety_checker", **how)
                (made / "feature_extractor").mkdir()
                write_json(
                    made / "feature_extractor" / "preprocessor_config.json",
                    feature_extractor or clip_preprocessing(safety_checker.config.vision.image_size),
                )
                kinds |= {"safety_checker": "StableDiffusionSafetyChecker", "feature_extractor": "CLIPImageProcessor"}
            for name, files in (("tokenizer", tokenizer_files), ("tokenizer_2", tokenizer_2_files)):
                if files is not None:
                    write_tokenizer(files, made / name)
                    kinds[name] = "CLIPTokenizer"
            for name, config in schedulers.items():
                (made / name).mkdir()
                write_json(made / name / "scheduler_config.json", config)
            safe = {"requires_safety_checker": safety_checker is not None}
            index = index_values(family, kinds, dict(options or {}) | safe)
            for name, part in (carried or {}).items():
                shutil.copytree(part.folder, made / name)
                index[name] = list(part.entry)
            write_json(made / INDEX, index)
            for name, contents in extra_files.items():
                with as_output_error(path / name), open(made / name, "xb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}; nothing was left behind") from error


def scheduler_class(config: Mapping[str, Any]) -> str:
    """The class that a scheduler's config names. Raises ConfigError if it names none."""
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise ConfigError(
            f"the scheduler config has no _class_name; expected one such as 'PNDMScheduler', got {name!r}"
        )
    return name


def write_tokenizer(files: TokenizerFiles, folder: Path) -> None:
    """Put a tokenizer's files into a new folder. Raises OSError, or OutputError."""
    if isinstance(files, Path):
        shutil.copytree(files, folder)
    else:
        folder.mkdir()
        files(folder)


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


@contextmanager
def folder_written_whole(path: Path) -> Generator[Path]:
    """A folder to make, beside `path`, which is there when the block has ended, in the place of what was. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent) as scratch:
        made = Path(scratch) / "new"
        yield made
        for file in made.rglob("*"):
            if file.is_file():
                force_to_disk(file)
        move_into_place(made, path)


def force_to_disk(file: Path) -> None:
    """Wait until a file's bytes are on the disk, so that no failure of power leaves an empty file under a finished name. Raises OSError."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


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
