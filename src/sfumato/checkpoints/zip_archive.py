"""The directory of a zip archive, read strictly: where each member lies, and that no two share a byte.

Python's `zipfile` is made to get at what it can; a checkpoint has one shape, and anything else is refused before a byte of it is used.
Source: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from sfumato.errors import CorruptFileError, UnsafeFileError

END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
ENTRY, LOCAL = b"PK\1\2", b"PK\3\4"
END_SIZE, END_64_SIZE, LOCATOR_SIZE, ENTRY_SIZE, LOCAL_SIZE = 22, 56, 20, 46, 30
STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR_FOLLOWS, PATCHED, STRONG, MASKED = 1, 1 << 3, 1 << 5, 1 << 6, 1 << 13
FILE_TYPE, PLAIN = 0o170000, frozenset({0, 0o100000, 0o040000})
"""Where Unix says what kind of file a member is: nothing, a file or a folder; anything else is a link, a device, a pipe."""
MOST_MEMBERS = 100_000
"""Stable Diffusion XL has some 2,500."""
MOST_NAME = 512
SLACK = 64 << 20
"""Bytes that compressed members may take beyond twice the size of the archive; weights hardly compress."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: where its bytes lie, and how many they are when compressed and when not."""

    name: str
    start: int
    stored: int
    size: int
    compressed: bool
    crc: int


def read_directory(data: memoryview) -> dict[str, Member]:
    """The members of an archive by name, folders left out.

    Raises CorruptFileError for an archive that is cut short, or whose parts contradict each other; UnsafeFileError for names that lead
    outside, links, members that share bytes or a name, and sizes out of all proportion. Neither names the file.
    """
    count, start, end = _find_directory(data)
    if count > MOST_MEMBERS:
        raise UnsafeFileError(f"its zip directory has {count:,} members; expected at most {MOST_MEMBERS:,}")
    members: dict[str, Member] = {}
    spans: list[tuple[int, int, str]] = []
    position = start
    for _ in range(count):
        entry = data[position : min(position + ENTRY_SIZE, end)]
        if len(entry) < ENTRY_SIZE or bytes(entry[:4]) != ENTRY:
            raise CorruptFileError(f"its zip directory is damaged at byte {position:,}")
        # Source: APPNOTE 4.3.12.
        _, _, flags, method, _, _, crc, stored, size, name_size, extra_size, comment_size, disk, _, mode, local = (
            struct.unpack("<HHHHHHIIIHHHHHII", entry[4:])
        )
        position += ENTRY_SIZE
        name = _name(bytes(data[position : position + name_size]))
        extra = bytes(data[position + name_size : position + name_size + extra_size])
        position += name_size + extra_size + comment_size
        if position > end:
            raise CorruptFileError(f"its zip directory is cut short in {name!r}")
        size, stored, local, disk = _widened(extra, size, stored, local, disk, name)
        _check(name, flags=flags, method=method, mode=mode >> 16, disk=disk)
        if name in members:
            raise UnsafeFileError(f"its zip directory lists {name!r} twice")
        data_start = _data_start(data, local, flags, method, name)
        if data_start + stored > start:
            raise CorruptFileError(f"its member {name!r} reaches beyond the zip's contents")
        if method == STORED and size != stored:
            raise CorruptFileError(f"its member {name!r} is stored as it is, in {stored:,} bytes instead of {size:,}")
        members[name] = Member(name, data_start, stored, size, method == DEFLATED, crc)
        spans.append((local, data_start + stored, name))
    if position != end:
        raise CorruptFileError("its zip directory is not as long as it says")
    spans.sort()
    for (_, before, first), (after, _, second) in pairwise(spans):
        if after < before:
            raise UnsafeFileError(f"its members {first!r} and {second!r} share bytes of the zip")
    inflated = sum(member.size for member in members.values() if member.compressed)
    if inflated > 2 * len(data) + SLACK:
        raise UnsafeFileError(f"its zip of {len(data):,} bytes unpacks to {inflated:,}")
    for name in [name for name in members if name.endswith("/")]:
        if members.pop(name).size:
            raise CorruptFileError(f"its folder {name!r} has contents")
    return members


def read_member(data: memoryview, member: Member) -> memoryview:
    """The bytes of a member, checked against its checksum: where they lie, or unpacked if they are compressed. Raises CorruptFileError."""
    if member.compressed:
        return memoryview(unpack_member(data, member))
    raw = data[member.start : member.start + member.stored]
    _check_sum(raw, member)
    return raw


def unpack_member(data: memoryview, member: Member) -> bytearray:
    """The bytes of a compressed member, checked against its checksum. Raises CorruptFileError."""
    contents = _inflate(data[member.start : member.start + member.stored], member)
    _check_sum(contents, member)
    return contents


def _check_sum(contents: bytearray | memoryview, member: Member) -> None:
    """Raise CorruptFileError unless the checksum is right; 0 is none: PyTorch leaves it out when told to (`set_crc32_options`)."""
    if member.crc not in (0, zlib.crc32(contents)):
        raise CorruptFileError(f"its member {member.name!r} does not match its checksum")


def _inflate(raw: memoryview, member: Member) -> bytearray:
    """Unpack into no more than the size that the directory gives."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        contents = unpacker.decompress(raw, member.size + 1)
    except zlib.error as error:
        raise CorruptFileError(f"its member {member.name!r} can't be unpacked ({error})") from None
    if len(contents) != member.size or not unpacker.eof:
        raise CorruptFileError(f"its member {member.name!r} does not unpack to {member.size:,} bytes")
    return bytearray(contents)


def _find_directory(data: memoryview) -> tuple[int, int, int]:
    """How many members the directory has, and where it begins and ends. Source: APPNOTE 4.3.14 to 4.3.16."""
    position = _end_record(data)
    disk, directory_disk, count_here, count, size, start = struct.unpack("<HHHHII", data[position + 4 : position + 20])
    end = position
    locator = position - LOCATOR_SIZE
    if locator >= 0 and bytes(data[locator : locator + 4]) == LOCATOR_64:
        _, wide, disks = struct.unpack("<IQI", data[locator + 4 : position])
        if disks > 1 or wide + END_64_SIZE != locator or bytes(data[wide : wide + 4]) != END_64:
            raise CorruptFileError("its zip64 directory is not where it says")
        record_size, _, _, disk_64, directory_disk_64, *wider = struct.unpack("<QHHIIQQQQ", data[wide + 4 : locator])
        if record_size != END_64_SIZE - 12:
            raise CorruptFileError("its zip64 directory is not as long as it says")
        # Two readers must not find two directories: a field is the same in both records, or all ones in the narrow one.
        narrow = ((disk, 16), (directory_disk, 16), (count_here, 16), (count, 16), (size, 32), (start, 32))
        for (value, bits), wide_value in zip(narrow, (disk_64, directory_disk_64, *wider), strict=True):
            if value not in (wide_value, (1 << bits) - 1):
                raise CorruptFileError("its zip has two directories that contradict each other")
        disk, directory_disk, (count_here, count, size, start), end = disk_64, directory_disk_64, wider, wide
    if disk or directory_disk or count != count_here:
        raise CorruptFileError("it is one part of a zip in several")
    if start + size != end:
        raise CorruptFileError("its zip directory is not where it says, or the file is cut short")
    return count, start, end


def _end_record(data: memoryview) -> int:
    """Where the record is that ends a zip; a comment may follow it, to the last byte."""
    tail_start = max(0, len(data) - END_SIZE - 0xFFFF)
    tail = bytes(data[tail_start:])
    found = tail.rfind(END)
    while found >= 0:
        position = tail_start + found
        if position + END_SIZE <= len(data):
            (comment,) = struct.unpack("<H", data[position + 20 : position + 22])
            if position + END_SIZE + comment == len(data):
                return position
        found = tail.rfind(END, 0, found)
    raise CorruptFileError("its zip has no end; the file is cut short")


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptFileError("a name in its zip is no text") from None
    parts = name.removesuffix("/").split("/")
    if (
        not name.isprintable()
        or len(name) > MOST_NAME
        or "\\" in name
        or ":" in name
        or not {"", ".", ".."}.isdisjoint(parts)
    ):
        raise UnsafeFileError(f"its zip has a member named {name[:80]!r}, which leads outside")
    return name


def _widened(extra: bytes, size: int, stored: int, local: int, disk: int, name: str) -> tuple[int, int, int, int]:
    """The fields of an entry that are too long for it, from its zip64 extra field. Source: APPNOTE 4.5.3."""
    fields: bytes | None = None
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            if fields is not None:
                raise CorruptFileError(f"its member {name!r} has two zip64 fields")
            fields = extra[position + 4 : position + 4 + length]
            if len(fields) < length:
                raise CorruptFileError(f"its member {name!r} has a zip64 field that is cut short")
        position += 4 + length
    left = fields or b""

    def wide(value: int, bits: int) -> int:
        nonlocal left
        if value != (1 << bits) - 1:
            return value
        width = 8 if bits == 32 else 4
        if len(left) < width:
            raise CorruptFileError(f"its member {name!r} lacks a zip64 field")
        taken, left = left[:width], left[width:]
        return int.from_bytes(taken, "little")

    return wide(size, 32), wide(stored, 32), wide(local, 32), wide(disk, 16)


def _check(name: str, *, flags: int, method: int, mode: int, disk: int) -> None:
    if flags & (ENCRYPTED | STRONG | MASKED | PATCHED):
        raise CorruptFileError(f"its member {name!r} is encrypted, or a patch")
    if method not in (STORED, DEFLATED):
        raise CorruptFileError(f"its member {name!r} is compressed by method {method}; expected none, or deflate")
    if mode & FILE_TYPE not in PLAIN:
        raise UnsafeFileError(f"its member {name!r} is a link, or another thing that is no file")
    if disk:
        raise CorruptFileError(f"its member {name!r} is on another disk")


def _data_start(data: memoryview, local: int, flags: int, method: int, name: str) -> int:
    """Where a member's bytes begin: after its local header, which must say the same. Source: APPNOTE 4.3.7."""
    header = data[local : local + LOCAL_SIZE]
    if len(header) < LOCAL_SIZE or bytes(header[:4]) != LOCAL:
        raise CorruptFileError(f"its member {name!r} is not where its zip directory says")
    _, local_flags, local_method, _, _, _, _, _, name_size, extra_size = struct.unpack("<HHHHHIIIHH", header[4:])
    begin = local + LOCAL_SIZE
    if (
        bytes(data[begin : begin + name_size]) != name.encode()
        or local_method != method
        or (local_flags ^ flags) & ENCRYPTED
    ):
        raise CorruptFileError(f"its member {name!r} is another in its own header")
    return begin + name_size + extra_size
