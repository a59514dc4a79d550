"""What is opened of a model, whether a folder or a single file held it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from sfumato.checkpoints.card import Card
from sfumato.checkpoints.families import Detected
from sfumato.checkpoints.weights import sha256
from sfumato.errors import CheckpointError, MissingFileError
from sfumato.models import AnyUNet, AutoencoderKL, CLIPTextEncoder, SafetyChecker
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.tokenizer_folder import TokenizerSpec
from sfumato.variants import Family


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What a folder or a file holds. A network is None if it was not asked for, or if there is none.

    path               the folder or file
    detected           its family, and what shows it
    tokenizers         by name: the folder it lies in, or what it is made of
    scheduler_config   with its class under `_class_name`
    low_res_scheduler  the config of the upscaler's second schedule
    feature_extractor  how to prepare a picture for the safety checker
    options            of its pipeline, as an index names them
    missing            optional parts that the index lists and the folder does not hold
    card               what its makers say of it, where the file brought it; a folder's lies beside its networks
    layout             how its tensors are named: "diffusers" or "ldm"
    unread             parts that Sfumato leaves alone, with their entries in the index
    weights            the files of the networks opened that draw: U-Net, text encoders, VAE
    """

    path: Path
    detected: Detected
    unet: AnyUNet | None = None
    vae: AutoencoderKL | None = None
    text_encoder: CLIPTextEncoder | None = None
    text_encoder_2: CLIPTextEncoder | None = None
    safety_checker: SafetyChecker | None = None
    tokenizers: Mapping[str, Path | TokenizerSpec]
    scheduler_config: dict[str, Any]
    low_res_scheduler: dict[str, Any] | None = None
    feature_extractor: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    missing: tuple[str, ...] = ()
    card: Card = field(default_factory=Card)
    layout: str = "diffusers"
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    weights: "WeightFiles"

    @property
    def family(self) -> Family:
        """The family it belongs to."""
        return self.detected.family

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks opened, by name."""
        names = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def tokenizer_dir(self) -> Path:
        """The folder of the first tokenizer. Raises MissingFileError where there is none: in a single file."""
        place = next(iter(self.tokenizers.values()), None)
        if not isinstance(place, Path):
            raise MissingFileError(f"{self.path} has no tokenizer folder")
        return place

    def tokenizer(self, name: str = "tokenizer") -> Tokenizer | None:
        """The tokenizer of that name; None if the model has none. Raises as `Tokenizer.from_folder`."""
        place = self.tokenizers.get(name)
        if isinstance(place, Path):
            return Tokenizer.from_folder(place)
        return None if place is None else Tokenizer(place)

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
