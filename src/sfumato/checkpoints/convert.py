"""Opening a model in whichever layout it is, and saving it in whichever is wanted."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sfumato.checkpoints.card import Card
from sfumato.checkpoints.components import TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, Component
from sfumato.checkpoints.filling import Change, entries_of
from sfumato.checkpoints.folder import open_folder
from sfumato.checkpoints.folder_saving import Carried, folder_written_whole, save_folder
from sfumato.checkpoints.ldm_layout import ldm_unet_keys, ldm_vae_keys
from sfumato.checkpoints.model import LoadedModel
from sfumato.checkpoints.safetensors_writer import write_safetensors
from sfumato.checkpoints.single_file import open_single_file
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.errors import MissingFileError, OptionError, OutputError, UnsupportedError
from sfumato.files import as_output_error, whole_file
from sfumato.text.tokenizer import Tokenizer

Layout = Literal["diffusers", "ldm"]
LAYOUTS: tuple[Layout, ...] = ("diffusers", "ldm")
ALONE: dict[str, Component[Any, Any]] = {part.name: part for part in (UNET, VAE, TEXT_ENCODER, TEXT_ENCODER_2)}
"""Networks that people also have by themselves."""


def open_model(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    components: Collection[str] | None = None,
    family: str | None = None,
    averaged: bool = False,
) -> LoadedModel:
    """Open a folder in the diffusers layout, or a single file. `family` says what a single file's tensors don't, `averaged` takes the
    U-Net's average over training from it.

    Raises MissingFileError if there is neither, OptionError for a variant of a file or a family or averages of a folder, and as
    `open_folder` and `open_single_file`.
    """
    path = Path(path)
    if path.is_dir():
        if averaged:
            raise OptionError(
                f"{path} is a folder, which holds no averages of training beside its U-Net; a variant may be one, such as ema or non_ema"
            )
        if family is not None:
            raise OptionError(f"{path} is a folder, whose configs say its family; leave out family={family!r}")
        return open_folder(path, dtype=dtype, variant=variant, components=components)
    if not path.exists():
        raise MissingFileError(f"there is no {path}; give a model folder, or a model file")
    if variant is not None:
        raise OptionError(f"{path} is one file, which has no variants; leave out variant={variant!r}")
    return open_single_file(path, dtype=dtype, components=components, family=family, averaged=averaged)


def save_model(
    model: LoadedModel,
    path: Path | str,
    *,
    layout: Layout,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    change: Change | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Save what was opened as a folder in the diffusers layout, or as one file in that of latent diffusion.

    Tensors are converted to `dtype` one at a time, after `change` is done to each by its name. A network that was opened by itself is
    saved by itself. Returns the names of parts that the layout has no place for.
    Raises OutputError, OptionError for a file's name without .safetensors, UnsupportedError for what the layout can't hold.
    """
    path = Path(path)
    networks = {name: network for name, network in model.networks.items() if name != "safety_checker"}
    if model.unet is None or model.vae is None:
        save_alone(networks, path, layout=layout, dtype=dtype, change=change, overwrite=overwrite)
        return ()
    card = Card.read(model.path) if model.path.is_dir() else model.card
    common: dict[str, Any] = {
        **networks,
        "scheduler_config": model.scheduler_config,
        "family": model.family,
        "options": model.options,
        "dtype": dtype,
        "change": change,
        "overwrite": overwrite,
    }
    if layout == "ldm":
        if variant is not None:
            raise OptionError("a single file has no variants; leave the variant out, or save a folder")
        read = {name: model.tokenizer(name) for name in model.tokenizers}
        tokenizers = {name: tokenizer for name, tokenizer in read.items() if tokenizer is not None}
        save_single_file(path, **common, tokenizers=tokenizers, card=card)
        return (*(("safety_checker",) if model.safety_checker is not None else ()), *model.unread)
    files: dict[str, Any] = {
        f"{name}_files": place if isinstance(place, Path) else Tokenizer(place).save
        for name, place in model.tokenizers.items()
    }
    save_folder(
        path,
        **common,
        **files,
        low_res_scheduler=model.low_res_scheduler,
        safety_checker=model.safety_checker,
        feature_extractor=model.feature_extractor,
        carried={name: Carried(model.path / name, entry) for name, entry in model.unread.items()},
        extra_files=card.files(),
        variant=variant,
    )
    return ()


def save_alone(
    networks: dict[str, nn.Module],
    path: Path,
    *,
    layout: Layout,
    dtype: torch.dtype | None,
    change: Change | None,
    overwrite: bool,
) -> None:
    """Save one network: as a folder with its config, or as a file with the names of latent diffusion and no prefix.

    Raises OutputError, UnsupportedError for several of which none is a whole model, or a network that is never alone in that layout.
    """
    if len(networks) != 1 or (name := next(iter(networks))) not in ALONE:
        raise UnsupportedError(
            f"this file holds {' and '.join(networks)}, which is neither a whole model nor one network; only these can be saved"
        )
    network: Any = networks[name]
    if layout == "diffusers":
        component = ALONE[name]
        if path.exists() and not (
            path.is_dir() and (not any(path.iterdir()) or (overwrite and is_alone(path, component)))
        ):
            raise OutputError(
                f"{path} exists and is not empty; give another path, or overwrite=True if it is a {name} to replace"
            )
        with as_output_error(path), folder_written_whole(path) as made:
            component.save(network, made, dtype=dtype, change=change)
        return
    keys = {"unet": ldm_unet_keys, "vae": ldm_vae_keys}.get(name)
    if keys is None:
        raise UnsupportedError("single files hold a text encoder only within a whole model; use the layout diffusers")
    if path.suffix != ".safetensors":
        raise OptionError(f"{path} is to be one file; give it a name that ends in .safetensors")
    tensors = {f"{name}.{key}": tensor for key, tensor in network.state_dict().items()}
    entries = list(entries_of(tensors, keys(network.config).under("", name), dtype, change))
    with whole_file(path, overwrite=overwrite) as file:
        write_safetensors(file, entries, {"format": "pt"})


def is_alone(folder: Path, component: Component[Any, Any]) -> bool:
    """Whether a folder holds nothing but one network, so that nothing is lost where it is replaced."""
    names = {file.name for file in folder.iterdir()}
    return "config.json" in names and all(name == "config.json" or name.startswith(component.stem) for name in names)
