"""Files that `torch.save` wrote, as tensors by name: the zip archive of PyTorch 1.6 and later, and the stream before it.

Both hold a pickle that describes tensors, and the storages that these are views of. The pickle is read by `pickle_reader`; storages stay
in the file, mapped. Source of both layouts: PyTorch's `torch/serialization.py`.
"""

import mmap
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from sfumato.checkpoints.flatten import Scalar, flatten
from sfumato.checkpoints.pickle_globals import storage_dtype
from sfumato.checkpoints.pickle_reader import PickleReader
from sfumato.checkpoints.pickle_values import Global, Pairs, as_list, as_tuple
from sfumato.checkpoints.reading import naming, reading
from sfumato.checkpoints.stored_tensor import Block, Source, Storage, StoredTensor, is_count, is_counts, make
from sfumato.checkpoints.streaming import Place
from sfumato.checkpoints.zip_archive import Member, read_directory, read_member, unpack_member
from sfumato.errors import CorruptFileError, UnsafeFileError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NEWEST_VERSION = 10
"""The newest `version` of the archive that PyTorch itself reads."""
RECORDS = frozenset({"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"})
MOST_KEY = 512
"""Letters of a storage's key, which is a number, or an address."""
MOST_PACKED = 64 << 20
"""Bytes of a pickle that was compressed; one that was not is read where it lies."""
SLACK = 64 << 20
"""Bytes that the tensors of a file may have between them beyond twice the size of the file: some share theirs, or repeat one."""


class TorchFile:
    """The tensors of an opened file by name, each mapped from it when asked for.

    A tensor that lies in the file unaligned or in another byte order, or in a compressed archive, is copied instead, and all booleans are.
    `others` is what else the file holds: step counts, names, and what of it was left unread.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, StoredTensor], others: Mapping[str, Scalar], source: Source
    ) -> None:
        self.others = others
        self._path = path
        self._tensors = tensors
        self._source = source

    def keys(self) -> list[str]:
        """The names of all tensors, in the file's order."""
        return list(self._tensors)

    def get_slice(self, name: str) -> StoredTensor:
        """A tensor yet to be made, which knows its shape and dtype."""
        return self._tensors[name]

    def get_tensor(self, name: str) -> Tensor:
        """The tensor. Raises CorruptFileError if its bytes were compressed and are damaged."""
        with reading(self._path), naming(self._path):
            return make(self._tensors[name], self._source)

    def place(self, name: str) -> Place | None:
        """Where the tensor's elements lie in the file; None for one whose bytes are compressed, swapped, strided or of another type."""
        tensor = self._tensors[name]
        block = tensor.storage.block
        as_it_is = tensor.in_order and tensor.cast is None and self._source.byteorder == sys.byteorder
        if block.start is None or not as_it_is:
            return None
        return Place(block.start + tensor.storage.start + tensor.offset * tensor.dtype.itemsize, tensor.dtype)

    def metadata(self) -> dict[str, str]:
        """No such file has any."""
        return {}


def open_torch_zip(mapped: mmap.mmap, path: Path) -> TorchFile:
    """The tensors of an archive: `NAME/data.pkl` and its storages `NAME/data/0`, …, in any folder NAME.

    Raises CorruptFileError or UnsafeFileError, which don't name the file; `naming` does.
    """
    data = memoryview(mapped)
    members = read_directory(data)
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CorruptFileError(f"its zip has {len(pickles) or 'no'} data.pkl; expected one, as torch.save writes")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members or any(name.startswith(f"{folder}code/") for name in members):
        raise UnsafeFileError("is a TorchScript program, which is code, and not weights")

    def record(name: str) -> bytes:
        member = members.get(folder + name)
        if member is not None and member.size > 64:
            raise CorruptFileError(f"its {name} is {member.size:,} bytes")
        return bytes(read_member(data, member)) if member else b""

    version = record("version").strip() or b"3"
    if not version.isdigit() or int(version) > NEWEST_VERSION:
        raise CorruptFileError(f"is of version {version!r} of PyTorch's format; the newest known is {NEWEST_VERSION}")
    byteorder = record("byteorder").decode("ascii", "replace") or "little"
    if byteorder not in ("little", "big"):
        raise CorruptFileError(f"has the byte order {byteorder!r}; expected little or big")

    blocks: dict[str, Block] = {}
    used = {pickles[0], *(folder + name for name in RECORDS)}

    def persistent(identifier: object) -> Storage:
        dtype, key, count = _storage(identifier, 5)[:3]
        member = members.get(f"{folder}data/{key}")
        if member is None:
            raise CorruptFileError(f"its storage {key!r} is missing")
        if count * dtype.itemsize > member.size:
            raise CorruptFileError(f"its storage {key!r} has {member.size:,} bytes, fewer than {count:,} of {dtype}")
        if key not in blocks:
            used.add(member.name)
            blocks[key] = _block(data, member)
        return Storage(blocks[key], dtype, count)

    if (described := members[pickles[0]]).compressed and described.size > MOST_PACKED:
        raise UnsafeFileError(f"its pickle unpacks to {described.size:,} bytes; expected at most {MOST_PACKED:,}")
    reader = PickleReader(read_member(data, described), persistent=persistent)
    value = reader.load()
    if (left := described.size - reader.position) > 0:
        raise CorruptFileError(f"its pickle has {left:,} bytes after its end")
    tensors, others = flatten(value, opcodes=reader.opcodes)
    if unread := sorted(members.keys() - used):
        others["members not read"] = f"{len(unread)} ({unread[0]}{', …' if len(unread) > 1 else ''})"
    _check_claims(tensors, len(data))
    return TorchFile(path, tensors, others, Source(mapped, byteorder))


def open_torch_stream(mapped: mmap.mmap, path: Path) -> TorchFile:
    """The tensors of the older format: five pickles (a magic number, a version, the machine, the object, its storages' keys), then the
    storages, each after its length.

    Raises CorruptFileError or UnsafeFileError, which don't name the file; `naming` does.
    """
    data = memoryview(mapped)
    blocks: dict[str, Block] = {}
    counts: dict[str, int] = {}

    def persistent(identifier: object) -> object:
        module = as_tuple(identifier, 4)
        if module is not None and module[0] == "module":
            # A module's class with its source code, which is not looked at.
            if not isinstance(module[1], Global):
                raise CorruptFileError("a module's class is no class")
            return module[1]
        dtype, key, count, view = _storage(identifier, 6)
        size = count * dtype.itemsize
        block = blocks.setdefault(key, Block(size))
        counts.setdefault(key, count)
        if block.size != size:
            raise CorruptFileError(f"its storage {key!r} has {block.size:,} bytes here and {size:,} there")
        if view is None:
            return Storage(block, dtype, count)
        part = as_tuple(view, 3)
        if part is None or not is_counts(part[1:]) or sum(part[1:]) > count:
            raise CorruptFileError(f"a view of its storage {key!r} reaches beyond it")
        return Storage(block, dtype, part[2], part[1] * dtype.itemsize)

    reader = PickleReader(data, persistent=persistent)
    if reader.load() != MAGIC:
        raise CorruptFileError("is a pickle, but not one that torch.save wrote")
    if (protocol := reader.load()) != PROTOCOL:
        raise CorruptFileError(
            f"is of version {protocol if type(protocol) is int else '?'} of PyTorch's older format; expected {PROTOCOL}"
        )
    byteorder = _byteorder(reader.load())
    value = reader.load()
    keys = as_list(reader.load())
    # Not sorted: comparing a long text that the list repeats with itself takes as long as the text, each time.
    if (
        keys is None
        or len(keys) != len(blocks)
        or not all(isinstance(key, str) for key in keys)
        or set(keys) != blocks.keys()
    ):
        raise CorruptFileError("the storages it lists are not those that its tensors use")
    position = reader.position
    for key in keys:
        block = blocks[key]
        (count,) = struct.unpack("<q" if byteorder == "little" else ">q", _exactly(data, position, 8))
        if count != counts[key]:
            raise CorruptFileError(f"its storage {key!r} has {count:,} elements instead of {counts[key]:,}")
        block.start = position + 8
        position += 8 + block.size
        if position > len(data):
            raise CorruptFileError(f"its storage {key!r} is cut short")
    if position != len(data):
        raise CorruptFileError(f"has {len(data) - position:,} bytes after its last storage")
    tensors, others = flatten(value, opcodes=reader.opcodes)
    _check_claims(tensors, len(data))
    return TorchFile(path, tensors, others, Source(mapped, byteorder))


def _storage(identifier: object, length: int) -> tuple[Any, ...]:
    """Dtype, key, count of elements, and what comes after, of the persistent id of a storage. Raises CorruptFileError."""
    parts = as_tuple(identifier, length)
    if parts is None or parts[0] != "storage":
        raise CorruptFileError("a persistent id in its pickle is not that of a storage")
    _, kind, key, location, count, *rest = parts
    if type(key) is not str or len(key) > MOST_KEY or type(location) is not str or not is_count(count):
        raise CorruptFileError("the persistent id of a storage has no key, place and length")
    return storage_dtype(kind), key, count, *rest


def _block(data: memoryview, member: Member) -> Block:
    if not member.compressed:
        return Block(member.size, start=member.start)
    return Block(member.size, read=lambda: unpack_member(data, member))


def _byteorder(machine: object) -> str:
    """The byte order of the machine that saved a stream, from what it says of itself."""
    values = cast("list[Any]", machine) if isinstance(machine, Pairs) else []
    for key, value in zip(values[::2], values[1::2], strict=True):
        if key == "little_endian" and isinstance(value, bool):
            return "little" if value else "big"
    raise CorruptFileError("does not say the byte order of the machine that saved it")


def _exactly(data: memoryview, position: int, size: int) -> bytes:
    if position + size > len(data):
        raise CorruptFileError("is cut short before its last storage")
    return bytes(data[position : position + size])


def _check_claims(tensors: Mapping[str, StoredTensor], size: int) -> None:
    """Tensors may share bytes, and repeat one by a stride of 0, but not so that what uses them takes the machine's memory."""
    claimed = sum(
        tensor.count * max(tensor.dtype.itemsize, (tensor.cast or tensor.dtype).itemsize) for tensor in tensors.values()
    )
    if claimed > 2 * size + SLACK:
        raise UnsafeFileError(f"has tensors of {claimed:,} bytes in a file of {size:,}")
