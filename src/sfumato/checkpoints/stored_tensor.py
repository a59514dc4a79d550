"""Tensors as a pickled checkpoint describes them: which bytes, of which type, in which strides. Checked before they are made."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeGuard, cast

import torch
from torch import Tensor

from sfumato.errors import CorruptFileError

# The names are those of safetensors, so that a tensor says the same of itself in every kind of file.
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "C128": torch.complex128,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

MOST_DIMENSIONS = 64
MOST = 1 << 48
"""The largest count of anything in a file: far above what any machine stores, far below what 64 bits overflow at."""


@dataclass(slots=True)
class Block:
    """Bytes that tensors share: a stretch of the file that can be mapped, or bytes that had to be read."""

    size: int
    start: int | None = None
    """Where they begin in the file, once that is known; None for bytes that don't lie in it as they are."""
    read: Callable[[], bytearray] | None = None
    """What reads them where they can't be mapped."""
    memory: bytearray | None = None
    """What was read, kept so that tensors which share a block share it, and it is read once."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements of one type in a block, from `start` bytes on."""

    block: Block
    dtype: torch.dtype
    count: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor yet to be made, known to lie within its storage. `offset` and `stride` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    cast: torch.dtype | None = None
    """The type that its elements are converted to: a few devices save theirs as another."""

    @property
    def count(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def extent(self) -> int:
        """How many elements of its storage it reaches over, from its first."""
        return extent(self.shape, self.stride)

    @property
    def in_order(self) -> bool:
        """Whether its elements lie one after another, the last dimension's side by side."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True

    def get_shape(self) -> list[int]:
        """Its shape, as safetensors' slices give it."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """Its dtype, as safetensors names it."""
        return NAMES[self.cast or self.dtype]


def view(
    storage: object, offset: object, shape: object, stride: object, dtype: torch.dtype | None = None
) -> StoredTensor:
    """The tensor that these describe. Raises CorruptFileError unless they do, and it lies within the storage."""
    if not isinstance(storage, Storage):
        raise CorruptFileError(f"a tensor is made of a {type(storage).__name__} instead of a storage")
    if not is_count(offset) or not is_counts(shape) or not is_counts(stride) or len(shape) != len(stride):
        raise CorruptFileError("a tensor's offset, shape and strides are not whole numbers that go together")
    if len(shape) > MOST_DIMENSIONS:
        raise CorruptFileError(f"a tensor has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
    dtype = dtype or storage.dtype
    available = storage.count * storage.dtype.itemsize // dtype.itemsize
    tensor = StoredTensor(storage, offset, tuple(shape), tuple(stride), dtype)
    if (tensor.extent and offset + tensor.extent > available) or tensor.count > MOST:
        raise CorruptFileError(
            f"a tensor of shape {list(shape)}, strides {list(stride)} and offset {offset} reaches beyond its storage of {available:,} elements"
        )
    return tensor


def extent(shape: Sequence[int], stride: Sequence[int]) -> int:
    """How many elements a strided tensor reaches over, the first included; 0 if it is empty."""
    return 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value read from a file is a whole number from 0 to MOST."""
    return type(value) is int and 0 <= value <= MOST


def is_counts(value: object) -> TypeGuard[tuple[int, ...] | list[int]]:
    """Whether a value read from a file is a tuple, or a list, of such numbers."""
    return isinstance(value, tuple | list) and all(is_count(item) for item in cast("list[object]", value))


def make(tensor: StoredTensor, source: "Source") -> Tensor:
    """The tensor itself: backed by the file where it lies there in this machine's byte order, copied otherwise."""
    if tensor.count == 0:
        return torch.empty(tensor.shape, dtype=tensor.cast or tensor.dtype)
    size = tensor.dtype.itemsize
    start, count = tensor.storage.start + tensor.offset * size, tensor.extent
    made = source.elements(tensor.storage.block, start, tensor.dtype, count)
    if tensor.dtype == torch.bool:
        # Any other byte than 0 and 1 makes PyTorch's own operations disagree on what is true.
        made = made.view(torch.uint8) != 0
    # One number needs no strides, and with odd ones PyTorch can't look at its bytes, though it calls it contiguous.
    made = made.as_strided(tensor.shape, tensor.stride) if tensor.count > 1 else made.reshape(tensor.shape)
    return made if tensor.cast is None else made.to(tensor.cast)


class Source:
    """Where the bytes of blocks are: one file, mapped. Writing to what is mapped changes the memory, never the file."""

    def __init__(self, mapped: object, byteorder: str = "little") -> None:
        self.byteorder = byteorder
        self._mapped = mapped

    def elements(self, block: Block, start: int, dtype: torch.dtype, count: int) -> Tensor:
        """`count` elements from a byte of a block on."""
        if block.start is None:
            assert block.read is not None, "a block that is neither in the file nor readable"
            memory = block.memory = block.memory or block.read()
        else:
            memory, start = self._mapped, block.start + start
        part = dtype.itemsize // (2 if dtype.is_complex else 1)
        # PyTorch takes every element to be aligned to its size: complex numbers elsewhere end the process.
        if start % dtype.itemsize == 0 and (self.byteorder == sys.byteorder or part == 1):
            return torch.frombuffer(memory, dtype=dtype, count=count, offset=start)
        copied = torch.frombuffer(memory, dtype=torch.uint8, count=count * dtype.itemsize, offset=start)
        if self.byteorder != sys.byteorder:
            return copied.view(-1, part).flip(-1).contiguous().view(-1).view(dtype)
        return copied.clone().view(dtype)
