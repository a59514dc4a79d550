"""Tensors of a network ⇄ files, one tensor at a time: read from safetensors and pickles, written as safetensors."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] (its path is a bare PathLike)
from torch import Tensor, nn

from sfumato.checkpoints.finite import SMALL, nonfinite
from sfumato.checkpoints.keys import KeyMap, few
from sfumato.checkpoints.options import read_json
from sfumato.checkpoints.tensor_file import TensorFile, enough_memory, open_tensors, reading
from sfumato.errors import CorruptFileError, KeyMismatchError, MissingFileError

__all__ = [
    "TensorFile",
    "enough_memory",
    "find_weights",
    "has_weights",
    "load_weights",
    "names",
    "open_tensors",
    "reading",
    "save_weights",
    "sha256",
    "shards",
]
logger = logging.getLogger("sfumato")

WEIGHT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def has_weights(folder: Path, stem: str, variant: str | None) -> bool:
    """Whether a component has weights of that variant (None: of none), as safetensors or pickled."""
    return any((folder / name).is_file() for name in (*names(stem, variant), *names(stem, variant, pickled=True)))


def names(stem: str, variant: str | None, *, pickled: bool = False) -> tuple[str, str]:
    """What the weights of a component are called: the file, and the index of its shards."""
    infix = f".{variant}" if variant else ""
    # transformers had another name for its pickles than it has for its safetensors; diffusers has one for both.
    stem, kind = ("pytorch_model" if stem == "model" else stem, "bin") if pickled else (stem, "safetensors")
    return f"{stem}{infix}.{kind}", f"{stem}.{kind}.index{infix}.json"


def find_weights(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """The files of a component's weights: one, or the shards that an index names; safetensors if there are, else pickles.

    Raises MissingFileError if there are none of that variant.
    """
    for pickled in (False, True):
        whole, index = (folder / name for name in names(stem, variant, pickled=pickled))
        if whole.is_file():
            return [whole]
        if index.is_file():
            return shards(index)

    whole = folder / names(stem, variant)[0]
    if others := sorted(variants(folder, stem)):
        raise MissingFileError(
            f"{whole} is missing, but there are variants; pass variant={' or '.join(map(repr, others))}"
        )
    if variant and has_weights(folder, stem, None):
        raise MissingFileError(f"{whole} is missing, but there are weights without a variant; pass variant=None")
    raise MissingFileError(f"{whole} is missing; expected the weights of this component as safetensors")


def variants(folder: Path, stem: str) -> set[str]:
    """The variants that a component has weights of."""
    patterns = [names(stem, "*", pickled=pickled)[0] for pickled in (False, True)]
    return {
        path.name.removeprefix(f"{pattern.split('.')[0]}.").split(".")[0].split("-")[0]
        for pattern in patterns
        for path in folder.glob(pattern)
    }


def shards(index: Path) -> list[Path]:
    """The files that an index of shards names. Raises CorruptFileError if it names none, or files outside its folder."""
    places: object = read_json(index).get("weight_map")
    values = list(cast("dict[str, object]", places).values()) if isinstance(places, dict) else []
    names = {name for name in values if isinstance(name, str) and Path(name).name == name and name.isprintable()}
    if not names or not all(name in names for name in values):
        raise CorruptFileError(f"{index} has no weight_map from tensors to files beside it; download the model again")
    files = [index.parent / name for name in sorted(names)]
    for file in files:
        if not file.is_file():
            raise MissingFileError(
                f"{file} is missing, one of {len(files)} that {index.name} names; download the model again"
            )
    return files


def load_weights(network: nn.Module, files: Sequence[Path], keys: KeyMap, dtype: torch.dtype | None = None) -> None:
    """Fill a network built on the meta device; each tensor is mapped from its file and, if asked, converted on its own.

    NaN and infinity in the small tensors, which are those a damaged model has too, are told to the log.
    Strict both ways: every tensor of the files is used or a known leftover, every one of the network filled exactly once.
    Raises CorruptFileError for a file that is cut short or holds no tensors, UnsafeFileError for one that asks for more, CheckpointError
    if memory does not suffice, and one KeyMismatchError that names all that is amiss.
    """
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    found: dict[str, Tensor] = {}
    unexpected: list[str] = []
    twice: list[str] = []
    misfits: dict[str, str] = {}
    bad: list[str] = []
    for path in files:
        with open_tensors(path) as file:
            for key in file.keys():  # noqa: SIM118 (an open file is no dict, and can't be iterated)
                name = keys.to_ours(key)
                if name is None or name not in expected:
                    if not keys.is_leftover(key):
                        unexpected.append(key)
                elif name in found:
                    twice.append(key)
                else:
                    with reading(path):
                        shape = file.get_slice(key).get_shape()
                        tensor = file.get_tensor(key) if shape == expected[name] else None
                    if tensor is None:
                        misfits[name] = f"{key} is {shape}, not {expected[name]}"
                    elif tensor.dtype not in WEIGHT_DTYPES:
                        misfits[name] = f"{key} is {tensor.dtype}, not a float of 16 to 64 bits"
                    else:
                        with enough_memory(path):
                            found[name] = tensor if dtype is None else tensor.to(dtype)
                        if tensor.numel() <= SMALL and any(nonfinite(found[name])):
                            bad.append(key)

    missing = [keys.to_theirs(name) for name in expected if name not in found and name not in misfits]
    groups = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("given twice", twice),
        ("of the wrong shape or type", list(misfits.values())),
    )
    amiss = [f"{len(names)} {what} ({few(names)})" for what, names in groups if names]
    if amiss:
        raise KeyMismatchError(
            f"{files[0]} does not fit its config: tensors {'; '.join(amiss)}; expected the weights of the same model"
        )
    if bad:
        # The large tensors are left mapped: reading them all to look would take as long as reading the file.
        logger.warning(
            "%s: %d of the small tensors hold NaN or infinity (%s); what it draws will be damaged",
            files[0],
            len(bad),
            few(bad),
        )
    network.load_state_dict(found, strict=True, assign=True)


def save_weights(network: nn.Module, path: Path, keys: KeyMap, dtype: torch.dtype | None = None) -> None:
    """Write a network's tensors as one safetensors file, with the layout's names and, if asked, another dtype.

    Raises OSError if it can't be written.
    """
    tensors = {
        keys.to_theirs(name): tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    try:
        # The readers of this layout refuse a file that does not say which framework's memory order it is in.
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def sha256(files: Sequence[Path]) -> str:
    """Hexadecimal digest of the files' bytes, one after another."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
