"""Configs that a single file brings along, in its metadata as we write it, or that a folder in the diffusers layout has for it.

A file that Sfumato wrote has in its metadata the small files of a folder in the diffusers layout, each under its path there, so that
nothing of the model has to be guessed, and none of it is lost.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sfumato.checkpoints.card import FILES, Card
from sfumato.checkpoints.clip_configs import read_text_config
from sfumato.checkpoints.configs import read_vae_config
from sfumato.checkpoints.index import INDEX, OPTIONS
from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.unets import read_config
from sfumato.errors import ConfigError
from sfumato.models import AnyUNetConfig, CLIPTextConfig, VAEConfig
from sfumato.text.tokenizer_folder import TokenizerSpec, read_tokenizer_folder

PREFIX = "sfumato/"
"""Under which our entries lie among the others of a file's metadata."""

TOKENIZERS = ("tokenizer", "tokenizer_2")
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "text_encoder_2": "text_encoder_2/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """Whatever is brought; None or empty for what has to be told from shapes, or is the family's."""

    unet: AnyUNetConfig | None = None
    vae: VAEConfig | None = None
    text_encoders: Mapping[str, CLIPTextConfig] = field(default_factory=dict[str, CLIPTextConfig])
    scheduler_config: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tokenizers: Mapping[str, TokenizerSpec] = field(default_factory=dict[str, TokenizerSpec])
    card: Card = field(default_factory=Card)

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> "Brought":
        """What the metadata of a file brings. Raises ConfigError for what is damaged."""
        files = {name.removeprefix(PREFIX): text for name, text in metadata.items() if name.startswith(PREFIX)}
        configs = {name: _parsed(files[path], path) for name, path in CONFIGS.items() if path in files}
        index = _parsed(files[INDEX], INDEX) if INDEX in files else {}
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in files.items():
                folder, _, file = name.rpartition("/")
                if (folder in TOKENIZERS and file in TOKENIZER_FILES) or name in FILES:
                    (Path(scratch) / folder).mkdir(exist_ok=True)
                    (Path(scratch) / name).write_text(text, encoding="utf-8", newline="\n")
            return cls._of(configs, index, Path(scratch), Card.read(Path(scratch)))

    @classmethod
    def of_folder(cls, folder: Path) -> "Brought":
        """What a folder in the diffusers layout brings; weights are not looked at. Raises ConfigError if it has no config of a U-Net."""
        if not (folder / CONFIGS["unet"]).is_file():
            raise ConfigError(
                f"{folder} has no {CONFIGS['unet']}; give a folder in the diffusers layout, whose configs fit the file"
            )
        configs = {name: read_json(folder / path) for name, path in CONFIGS.items() if (folder / path).is_file()}
        index = read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
        return cls._of(configs, index, folder, Card())

    @classmethod
    def _of(
        cls, configs: Mapping[str, dict[str, Any]], index: Mapping[str, Any], folder: Path, card: Card
    ) -> "Brought":
        def read(name: str, reader: Callable[[Mapping[str, Any], str], Config]) -> Config | None:
            return reader(configs[name], CONFIGS[name]) if name in configs else None

        encoders = {name: read(name, read_text_config) for name in ("text_encoder", "text_encoder_2")}
        return cls(
            unet=read("unet", read_config),
            vae=read("vae", read_vae_config),
            text_encoders={name: config for name, config in encoders.items() if config is not None},
            scheduler_config=configs.get("scheduler"),
            options={name: index[name] for name, kind in OPTIONS.items() if type(index.get(name)) is kind},
            tokenizers={name: read_tokenizer_folder(folder / name) for name in TOKENIZERS if (folder / name).is_dir()},
            card=card,
        )


def metadata_of(files: Mapping[str, str]) -> dict[str, str]:
    """The metadata that brings these small files of a folder, by their paths in it."""
    return {PREFIX + name: text for name, text in files.items()}


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the {name} in its metadata is not JSON ({error}); save the model again") from None
    if not isinstance(value, dict):
        raise ConfigError(f"the {name} in its metadata is a {type(value).__name__}; expected a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType] (JSON)
