"""The networks that a folder in the diffusers layout holds, each with its config, key map and file names."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from sfumato.checkpoints import clip_configs, configs, diffusers_layout, unets
from sfumato.checkpoints.filling import Change, Survey, load_weights, save_weights, survey
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.unfilled import unfilled
from sfumato.checkpoints.weights import find_weights
from sfumato.models import (
    AnyUNet,
    AnyUNetConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextEncoder,
    SafetyChecker,
    SafetyCheckerConfig,
    VAEConfig,
)

ConfigT = TypeVar("ConfigT")
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class Component(Generic[ConfigT, NetworkT]):
    """One kind of network of the layout, and how it is opened and saved."""

    name: str
    stem: str
    read_config: Callable[[Mapping[str, Any], str], ConfigT]
    write_config: Callable[[ConfigT], dict[str, Any]]
    build: Callable[[ConfigT], NetworkT]
    config_of: Callable[[NetworkT], ConfigT]
    keys: Callable[[ConfigT], KeyMap]
    by_architecture: bool = False
    """Whether its class is one of transformers, whose configs name theirs under `architectures`."""

    def open(
        self, folder: Path, *, dtype: torch.dtype | None = None, variant: str | None = None, kind: str | None = None
    ) -> NetworkT:
        """The network in a component's own folder, in evaluation mode, on the CPU, in `dtype` or that of its file.

        `kind` is the class that a model's index names, which decides where the config of a transformers class names another.
        Raises MissingFileError, CorruptFileError, ConfigError or KeyMismatchError; CheckpointError if memory does not suffice.
        """
        network, files, keys = self._unfilled(folder, variant, kind)
        load_weights(network, files, keys, dtype)
        return network.eval()

    def survey(self, folder: Path, *, variant: str | None = None, kind: str | None = None) -> Survey:
        """How the weights in a component's own folder fit its config, without reading a tensor. Raises as `open`, except for what doesn't fit."""
        return survey(*self._unfilled(folder, variant, kind))

    def _unfilled(self, folder: Path, variant: str | None, kind: str | None) -> tuple[NetworkT, list[Path], KeyMap]:
        """The network of a folder's config, yet to be filled, with the files of its weights and its names in them."""
        path = folder / "config.json"
        values = read_json(path)
        if kind is not None and self.by_architecture:
            values = values | {"architectures": [kind]}
        config = self.read_config(values, str(path))
        files = find_weights(folder, self.stem, variant)
        with unfilled():
            network = self.build(config)
        return network, files, self.keys(config)

    def save(
        self,
        network: NetworkT,
        folder: Path,
        *,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
        change: Change | None = None,
    ) -> None:
        """Write config and weights into a new folder; `change` is done to each tensor by its name, after the network's. Raises OSError."""
        config = self.config_of(network)
        folder.mkdir(parents=True)
        write_json(folder / "config.json", self.write_config(config))
        weights = folder / f"{self.stem}{f'.{variant}' if variant else ''}.safetensors"

        def named(name: str, tensor: Tensor) -> Tensor:
            return tensor if change is None else change(f"{self.name}.{name}", tensor)

        save_weights(network, weights, self.keys(config), dtype, named)
        # safetensors makes its files private to their owner; these are as readable as any other.
        shutil.copymode(folder / "config.json", weights)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object as people read it. Raises OSError."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


UNET: Component[AnyUNetConfig, AnyUNet] = Component(
    name="unet",
    stem="diffusion_pytorch_model",
    read_config=unets.read_config,
    write_config=unets.write_config,
    build=unets.build,
    config_of=lambda network: network.config,
    keys=unets.keys_of,
)
VAE: Component[VAEConfig, AutoencoderKL] = Component(
    name="vae",
    stem="diffusion_pytorch_model",
    read_config=configs.read_vae_config,
    write_config=configs.write_vae_config,
    build=AutoencoderKL,
    config_of=lambda network: network.config,
    keys=diffusers_layout.vae_keys,
)
TEXT_ENCODER: Component[CLIPTextConfig, CLIPTextEncoder] = Component(
    name="text_encoder",
    stem="model",
    read_config=clip_configs.read_text_config,
    write_config=clip_configs.write_text_config,
    build=CLIPTextEncoder,
    config_of=lambda network: network.config,
    keys=diffusers_layout.text_keys,
    by_architecture=True,
)
# SDXL's second; the same kind of network.
TEXT_ENCODER_2 = replace(TEXT_ENCODER, name="text_encoder_2")
SAFETY_CHECKER: Component[SafetyCheckerConfig, SafetyChecker] = Component(
    name="safety_checker",
    stem="model",
    read_config=clip_configs.read_safety_config,
    write_config=clip_configs.write_safety_config,
    build=SafetyChecker,
    config_of=lambda network: network.config,
    keys=diffusers_layout.safety_keys,
    by_architecture=True,
)
