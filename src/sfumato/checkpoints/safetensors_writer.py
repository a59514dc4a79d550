"""Writing safetensors one tensor at a time: a file larger than memory can be written, as no two of its tensors are needed at once."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import torch
from torch import Tensor

from sfumato.checkpoints.stored_tensor import NAMES

ALIGNMENT = 8
"""Where the tensors begin is a multiple of it, so that each lies where its type wants it: they are ordered by the size of that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A tensor to write: what the header says of it, and how it is made when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


def write_safetensors(file: BinaryIO, entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
    """Write a whole safetensors file. Raises OSError.

    Source: the format's description, github.com/huggingface/safetensors: a header's length, the header as JSON, the tensors' bytes.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for entry in ordered:
        start, end = end, end + entry.size
        header[entry.name] = {"dtype": NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for entry in ordered:
        tensor = entry.make()
        assert tensor.shape == entry.shape, f"{entry.name} was announced as {entry.shape} and is {tuple(tensor.shape)}"
        plain = tensor.detach().to("cpu", entry.dtype).contiguous().reshape(-1)
        file.write(plain.view(torch.uint8).numpy().data)
