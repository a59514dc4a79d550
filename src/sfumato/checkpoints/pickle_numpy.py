"""numpy's numbers and arrays in a pickle, and the ways in which pickles write bytes."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from sfumato.checkpoints.pickle_values import Arguments, Global, arity, as_tuple
from sfumato.checkpoints.stored_tensor import Block, Storage, StoredTensor, is_counts, view
from sfumato.errors import CorruptFileError

NUMPY_TYPES: dict[str, torch.dtype] = {
    "b1": torch.bool, "u1": torch.uint8, "i1": torch.int8, "u2": torch.uint16, "i2": torch.int16, "u4": torch.uint32,
    "i4": torch.int32, "u8": torch.uint64, "i8": torch.int64, "f2": torch.float16, "f4": torch.float32, "f8": torch.float64,
    "c8": torch.complex64, "c16": torch.complex128,
}  # fmt: skip


@dataclass(slots=True)
class NumpyType:
    """A numpy dtype, such as "f4"."""

    code: str
    byteorder: str = "="


@dataclass(slots=True)
class NumpyArray:
    """A numpy array; its shape and bytes come after it."""

    type: NumpyType | None = None
    shape: tuple[int, ...] = ()
    fortran: bool = False
    raw: bytes = b""


def numpy_dtype(arguments: Arguments) -> NumpyType:
    """A numpy dtype of numbers."""
    code = arity(arguments, 1, 3, "numpy.dtype")[0]
    if not isinstance(code, str) or code not in NUMPY_TYPES:
        raise CorruptFileError("a numpy array's type is not one of numbers")
    return NumpyType(code)


def set_numpy_type(numpy_type: NumpyType, state: object) -> None:
    """Take a dtype's byte order out of what numpy saves of it: a version, the order, and seven things that plain types lack."""
    parts = as_tuple(state)
    if parts is None or parts[1:2] not in (("<",), (">",), ("=",), ("|",)) or parts[2:5] != (None, None, None):
        raise CorruptFileError("a numpy dtype is not one of plain numbers")
    numpy_type.byteorder = parts[1]


def numpy_scalar(arguments: Arguments) -> object:
    """A number that numpy made."""
    numpy_type, raw = arity(arguments, 2, 2, "a numpy number")
    raw = raw_bytes(raw)
    if not isinstance(numpy_type, NumpyType) or len(raw) != NUMPY_TYPES[numpy_type.code].itemsize:
        raise CorruptFileError("a numpy number is not of its type's size")
    return np.frombuffer(raw, plain_dtype(numpy_type))[0].item()


def plain_dtype(numpy_type: NumpyType) -> "np.dtype[Any]":
    """The dtype in numpy's own terms."""
    return np.dtype(numpy_type.code).newbyteorder(numpy_type.byteorder if numpy_type.byteorder in "<>" else "=")  # pyright: ignore[reportArgumentType] (a literal)


def reconstruct_array(arguments: Arguments) -> NumpyArray:
    """An empty array, as numpy makes one before it fills it."""
    kind = arity(arguments, 3, 3, "numpy's _reconstruct")[0]
    if not isinstance(kind, Global) or kind.name != "numpy.ndarray":
        raise CorruptFileError("a numpy array is not of numpy's own class")
    return NumpyArray()


def set_array(array: NumpyArray, state: object) -> None:
    """Give an array its contents: a version, its shape, its dtype, whether columns go first, and its bytes."""
    parts = as_tuple(state, 5)
    if array.type is not None or parts is None:
        raise CorruptFileError("a numpy array's contents are not what numpy saves")
    fill(array, *parts[1:])


def fill(array: NumpyArray, shape: object, numpy_type: object, fortran: object, raw: object) -> None:
    """Give an array its contents. Raises CorruptFileError unless they go together."""
    raw = raw_bytes(raw)
    if not isinstance(numpy_type, NumpyType) or not is_counts(shape) or len(shape) > 32:
        raise CorruptFileError("a numpy array has no shape and type of numbers")
    if prod(shape) * NUMPY_TYPES[numpy_type.code].itemsize != len(raw):
        raise CorruptFileError(f"a numpy array of shape {list(shape)} has {len(raw)} bytes")
    array.type, array.shape, array.fortran, array.raw = numpy_type, tuple(shape), bool(fortran), raw


def array_from_buffer(arguments: Arguments) -> NumpyArray:
    """An array in the newest protocol: its bytes, dtype, shape, and "C" or "F" for the order."""
    raw, numpy_type, shape, order = arity(arguments, 4, 5, "numpy's _frombuffer")[:4]
    array = NumpyArray()
    fill(array, shape, numpy_type, order == "F", raw)
    return array


def array_tensor(array: NumpyArray) -> StoredTensor:
    """An array as a tensor. Raises CorruptFileError if it was never given contents."""
    if array.type is None:
        raise CorruptFileError("a numpy array has no contents")
    dtype = NUMPY_TYPES[array.type.code]
    raw, plain = array.raw, plain_dtype(array.type)

    def read() -> bytearray:
        return bytearray(np.frombuffer(raw, plain).astype(plain.newbyteorder("=")).tobytes())

    stride: list[int] = []
    step = 1
    for size in array.shape if array.fortran else reversed(array.shape):
        stride.append(step)
        step *= size
    stride = stride if array.fortran else stride[::-1]
    storage = Storage(Block(len(raw), read=read), dtype, len(raw) // dtype.itemsize)
    return view(storage, 0, array.shape, tuple(stride))


def raw_bytes(value: object) -> bytes:
    """Bytes; those of Python 2, which were text, included. Raises CorruptFileError."""
    if isinstance(value, str):
        return encode((value, "latin1"))
    if not isinstance(value, bytes):
        raise CorruptFileError(f"a {type(value).__name__} stands where bytes belong")
    return value


def encode(arguments: Arguments) -> bytes:
    """The bytes that Python 3 writes as text for protocol 2: each a character of Latin-1."""
    text, encoding = arity(arguments, 2, 2, "_codecs.encode")
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CorruptFileError("_codecs.encode is called for something else than bytes")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise CorruptFileError("bytes written as text hold characters that are no bytes") from None
