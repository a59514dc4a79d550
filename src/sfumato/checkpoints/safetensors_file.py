"""A safetensors file, opened by the format's own library, with the checks that it leaves out."""

import json
import struct
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import torch
from safetensors import safe_open
from torch import Tensor

from sfumato.checkpoints.flatten import Scalar
from sfumato.checkpoints.reading import reading
from sfumato.checkpoints.stored_tensor import DTYPES, MOST_DIMENSIONS
from sfumato.checkpoints.streaming import Place
from sfumato.errors import CorruptFileError, UnsafeFileError

MOST_HEADER = 16 << 20
"""Bytes of the header; that of Stable Diffusion XL has 300,000, and what trainers add to one some millions."""
METADATA = "__metadata__"


class Opened(Protocol):
    """What the library opens."""

    def keys(self) -> list[str]:
        """The names of all tensors."""
        ...

    def get_slice(self, name: str) -> Any:
        """A tensor yet to be read."""
        ...

    def get_tensor(self, name: str) -> Tensor:
        """A tensor."""
        ...

    def metadata(self) -> dict[str, str] | None:
        """What the file says of itself, if it does."""
        ...


class SafetensorsFile:
    """The tensors of an opened safetensors file by name, each mapped from it when asked for; booleans, and what is not aligned, are copied."""

    others: Mapping[str, Scalar] = {}

    def __init__(self, path: Path, opened: Opened, places: Mapping[str, Place]) -> None:
        self._path = path
        self._opened = opened
        self._places = places

    def keys(self) -> list[str]:
        """The names of all tensors."""
        return self._opened.keys()

    def get_slice(self, name: str) -> Any:
        """A tensor yet to be read, which knows its shape and dtype."""
        return self._opened.get_slice(name)

    def get_tensor(self, name: str) -> Tensor:
        """The tensor, backed by the file. Raises CorruptFileError for one of a type that PyTorch does not have."""
        with reading(self._path):
            tensor = self._opened.get_tensor(name)
        if tensor.dtype == torch.bool:
            # Any other byte than 0 and 1 makes PyTorch's own operations disagree on what is true.
            return tensor.view(torch.uint8) != 0
        if tensor.data_ptr() % tensor.element_size():
            # PyTorch takes every element to be aligned to its size: complex numbers elsewhere end the process.
            return tensor.view(-1).view(torch.uint8).clone().view(tensor.dtype).view(tensor.shape)
        return tensor

    def place(self, name: str) -> Place | None:
        """Where the tensor lies in the file."""
        return self._places.get(name)

    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return self._opened.metadata() or {}


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is meant as safetensors: the length of its header, then the header, in JSON."""
    # No header has a length that needs the upper bytes; PyTorch's pickles can begin with its lower ones.
    return start[6:9] == b"\0\0{"


def open_safetensors(path: Path) -> AbstractContextManager[Opened]:
    """Open a file with the format's library. Raises SafetensorError, OSError."""
    return cast("AbstractContextManager[Opened]", safe_open(path, framework="pt"))


def check_length(file: BinaryIO, size: int) -> None:
    """Check the length of a file's header before the library reads it. Raises UnsafeFileError, CorruptFileError."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - 8:
        raise CorruptFileError(f"its header has {length:,} bytes, and the file {size:,}; it is cut short")
    if length > MOST_HEADER:
        raise UnsafeFileError(f"its header has {length:,} bytes; expected at most {MOST_HEADER:,}")


def check_names(file: BinaryIO) -> dict[str, Place]:
    """Check what the library lets pass in a header that it has read: names given twice, and tensors of too many dimensions.

    Returns where each tensor lies. Raises CorruptFileError.
    """
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    try:
        header: dict[str, Any] = json.loads(file.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"its header is damaged ({error})") from None
    places: dict[str, Place] = {}
    for name, entry in header.items():
        if name == METADATA:
            continue
        if len(entry["shape"]) > MOST_DIMENSIONS:
            raise CorruptFileError(f"its tensor {name[:80]!r} has {len(entry['shape'])} dimensions")
        dtype = DTYPES.get(entry["dtype"])
        if dtype is not None and dtype != torch.bool and sys.byteorder == "little":
            places[name] = Place(8 + length + entry["data_offsets"][0], dtype)
    return places


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name is given twice, of which readers would choose one or the other."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise CorruptFileError(f"its header names {twice[:80]!r} twice")
    return values
