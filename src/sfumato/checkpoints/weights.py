"""Tensors of a network ⇄ safetensors files, one tensor at a time."""

import hashlib
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] (its path is a bare PathLike)
from torch import Tensor, nn

from sfumato.checkpoints.keys import KeyMap, few
from sfumato.checkpoints.options import read_json
from sfumato.errors import CheckpointError, CorruptFileError, KeyMismatchError, MissingFileError

WEIGHT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def has_weights(folder: Path, stem: str, variant: str | None) -> bool:
    """Whether a component has safetensors files of that variant (None: of none)."""
    infix = f".{variant}" if variant else ""
    return any(
        (folder / f"{stem}{end}").is_file() for end in (f"{infix}.safetensors", f".safetensors.index{infix}.json")
    )


def find_weights(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """The safetensors files of a component: one, or the shards that an index names.

    Raises MissingFileError if there are none of that variant, CheckpointError if there are only pickled ones.
    """
    infix = f".{variant}" if variant else ""
    whole = folder / f"{stem}{infix}.safetensors"
    if whole.is_file():
        return [whole]
    index = folder / f"{stem}.safetensors.index{infix}.json"
    if index.is_file():
        return shards(index)

    others = sorted(
        {
            path.name.removeprefix(f"{stem}.").split(".")[0].split("-")[0]
            for path in folder.glob(f"{stem}.*.safetensors")
        }
    )
    if others:
        raise MissingFileError(
            f"{whole} is missing, but there are variants; pass variant={' or '.join(map(repr, others))}"
        )
    if variant and (folder / f"{stem}.safetensors").is_file():
        raise MissingFileError(f"{whole} is missing, but there are weights without a variant; pass variant=None")
    if any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} has its weights as pickles (.bin), which can run code and are not read; save them as safetensors"
        )
    raise MissingFileError(f"{whole} is missing; expected the weights of this component as safetensors")


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


class TensorFile(Protocol):
    """An open safetensors file: its tensors by name, each mapped from the file when asked for."""

    def keys(self) -> list[str]:
        """The names of all tensors."""
        ...

    def get_slice(self, name: str) -> Any:
        """A tensor yet to be read, which knows its shape."""
        ...

    def get_tensor(self, name: str) -> Tensor:
        """The tensor, backed by the file."""
        ...


@contextmanager
def reading(path: Path) -> Generator[None]:
    """What fails within is said of the file: CorruptFileError if it is cut short or something else, CheckpointError for memory."""
    try:
        with enough_memory(path):
            yield
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CorruptFileError(f"{path} can't be read as safetensors ({reason}); download the model again") from error


@contextmanager
def enough_memory(path: Path) -> Generator[None]:
    """Raise CheckpointError where memory runs out within: nothing is wrong with the file then."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError, SafetensorError) as error:
        # PyTorch's allocator on the CPU and a mapping that fails have no class of their own.
        said = str(error).lower()
        if isinstance(error, MemoryError) or any(words in said for words in ("allocate memory", "not enough memory")):
            raise CheckpointError(
                f"there is not enough memory to open {path}; free some, or open the model in a smaller dtype such as float16"
            ) from error
        raise


@contextmanager
def open_tensors(path: Path) -> Generator[TensorFile]:
    """Open a safetensors file. Raises CorruptFileError if it is cut short or something else, CheckpointError for memory."""
    with reading(path):
        opened = cast("AbstractContextManager[TensorFile]", safe_open(path, framework="pt"))
    with opened as file:
        yield file


def load_weights(network: nn.Module, files: Sequence[Path], keys: KeyMap, dtype: torch.dtype | None = None) -> None:
    """Fill a network built on the meta device; each tensor is mapped from its file and, if asked, converted on its own.

    Strict both ways: every tensor of the files is used or a known leftover, every one of the network filled exactly once.
    Raises CorruptFileError for a file that is not safetensors or is cut short, CheckpointError if memory does not suffice, and one
    KeyMismatchError that names all that is amiss.
    """
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    found: dict[str, Tensor] = {}
    unexpected: list[str] = []
    twice: list[str] = []
    misfits: dict[str, str] = {}
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
