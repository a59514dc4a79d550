"""Where an adapter's file is: a path, a folder, or a hub id, as people give them to `load_lora_weights`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.adapters.alphas import CONFIG
from sfumato.checkpoints import fetch
from sfumato.checkpoints.hub import is_hub_id
from sfumato.errors import MissingFileError, OptionError, UnsupportedError
from sfumato.pipeline.loading import HUB_OPTIONS

LORA_NAMES = (
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
    "pytorch_lora_weights.bin",
    "adapter_model.bin",
)
EMBEDDING_NAMES = ("learned_embeds.safetensors", "learned_embeds.bin")
ENDINGS = (".safetensors", ".bin", ".pt", ".ckpt", ".pth")
# Options of diffusers that can be granted by doing nothing.
HARMLESS = (
    "use_safetensors",
    "low_cpu_mem_usage",
    "resume_download",
    "proxies",
    "force_download",
    "mirror",
    "hf_token",
)


def adapter_file(name: str | os.PathLike[str], usual: Sequence[str], options: Mapping[str, Any]) -> Path:
    """The file that is meant: itself, that called `weight_name` in a folder or on the hub, one of the usual names, or the only one.

    Other options are `subfolder` and the hub's. Raises MissingFileError or OptionError where there is none or no one to choose,
    UnsupportedError for other options, and as `fetch`.
    """
    given = dict(options)
    weight_name, subfolder = given.pop("weight_name", None), given.pop("subfolder", None)
    hub = {option: given.pop(option) for option in HUB_OPTIONS if option in given}
    for option, value in given.items():
        if option not in HARMLESS and value is not None and value is not False:
            raise UnsupportedError(f"loading an adapter knows no option {option}={value!r}; leave it out")
    for option, part in (("weight_name", weight_name), ("subfolder", subfolder)):
        if part is not None and (not isinstance(part, str) or Path(part).is_absolute() or ".." in Path(part).parts):
            raise OptionError(f"{option} is {part!r}; expected a name within the folder")
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return within(path / (subfolder or ""), weight_name, usual)
    if not is_hub_id(name):
        raise MissingFileError(
            f"there is no adapter {os.fspath(name)!r}; give a file, a folder that holds one, or a hub id"
        )
    at = f"{subfolder}/" if subfolder else ""
    wanted = [f"{at}{each}" for each in ([weight_name] if weight_name else usual)]
    folder = fetch(
        str(name),
        revision=hub.get("revision"),
        token=hub["token"] if hub.get("token") is not None else hub.get("use_auth_token"),
        local_files_only=bool(hub.get("local_files_only", False)),
        cache_dir=hub.get("cache_dir"),
        only=[*wanted, f"{at}{CONFIG}"],
    )
    return within(folder / at, weight_name, usual)


def within(folder: Path, weight_name: str | None, usual: Sequence[str]) -> Path:
    """The file in a folder. Raises MissingFileError, or OptionError where there are several."""
    if weight_name is not None:
        if not (folder / weight_name).is_file():
            raise MissingFileError(f"{folder} has no {weight_name}; it has {listed(folder) or 'no adapter'}")
        return folder / weight_name
    for name in usual:
        if (folder / name).is_file():
            return folder / name
    found = candidates(folder)
    if not found:
        raise MissingFileError(f"{folder} holds no adapter under a usual name ({', '.join(usual)}); pass weight_name=…")
    if len(found) > 1:
        raise OptionError(f"{folder} holds {len(found)} files ({listed(folder)}); say which by weight_name=…")
    return found[0]


def candidates(folder: Path) -> list[Path]:
    """The files of a folder that may be adapters; safetensors if there are any."""
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS) if folder.is_dir() else []
    return [path for path in files if path.suffix == ENDINGS[0]] or files


def listed(folder: Path) -> str:
    """Names of these files, for a message."""
    names = [path.name for path in candidates(folder)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
