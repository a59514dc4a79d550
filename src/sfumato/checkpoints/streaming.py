"""Reading a tensor into another dtype a little at a time, so that no more of the file is in memory than that little."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO

import torch
from torch import Tensor

from sfumato.errors import CorruptFileError

CHUNK = 1 << 20
"""Bytes read at once: they fit a processor's cache, where converting them costs least."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file the elements of a tensor lie, one after another and in this machine's byte order: the first byte, and their type."""

    start: int
    dtype: torch.dtype


def read_as(file: FileIO, place: Place, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The tensor of this shape that lies there, in memory of its own, in `dtype`. Raises OSError, CorruptFileError if the file ends before it."""
    made = torch.empty(tuple(shape), dtype=dtype)
    flat = made.view(-1)
    size = place.dtype.itemsize
    buffer = bytearray(min(CHUNK, max(size, flat.numel() * size)))
    window, part = memoryview(buffer), torch.frombuffer(buffer, dtype=place.dtype)
    file.seek(place.start)
    for at in range(0, flat.numel(), len(part)):
        count = min(len(part), flat.numel() - at)
        read = 0
        while read < count * size:
            got = file.readinto(window[read : count * size])
            if not got:
                raise CorruptFileError("it was cut short while it was read")
            read += got
        flat[at : at + count].copy_(part[:count])
    return made
