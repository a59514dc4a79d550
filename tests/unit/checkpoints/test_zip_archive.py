"""Archives as zip programs write them, and every way in which one can lie."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sfumato.checkpoints import zip_archive
from sfumato.checkpoints.zip_archive import read_directory, read_member
from sfumato.errors import CorruptFileError, UnsafeFileError


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, contents in members:
            archive.writestr(name, contents)
        archive.comment = comment
    return buffer.getvalue()


def read(data: bytes) -> dict[str, bytes]:
    view = memoryview(data)
    return {name: bytes(read_member(view, member)) for name, member in read_directory(view).items()}


def patched(data: bytes, signature: bytes, offset: int, value: bytes, *, which: int = 0) -> bytes:
    """The bytes with a field of a record overwritten."""
    position = -1
    for _ in range(which + 1):
        position = data.index(signature, position + 1)
    position += offset
    return data[:position] + value + data[position + len(value) :]


ENTRY, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"
TWO = (("a/data.pkl", b"12345"), ("a/data/0", b"67890"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"hello", b"PK\5\6" + b"x" * 30, b"x" * 65535])
def test_members_come_back(compression: int, comment: bytes) -> None:
    members = (*TWO, ("a/empty", b""), ("a/long", b"x" * 100_000))
    assert read(zipped(*members, compression=compression, comment=comment)) == dict(members)


def test_folders_are_left_out() -> None:
    assert read(zipped(("a/", b""), *TWO)) == dict(TWO)


def test_members_written_as_a_stream_and_in_zip64() -> None:
    class Pipe(io.RawIOBase):
        """A file that can't seek, for which sizes follow the contents."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, contents in TWO:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(contents)
    assert read(pipe.data) == dict(TWO)


def test_pytorch_s_own_archives_are_zip64() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(3)}, buffer)
    data = buffer.getvalue()
    assert b"PK\6\6" in data
    members = read_directory(memoryview(data))
    assert members["archive/data/0"].size == 24
    assert members["archive/data/0"].start % 64 == 0


def wide(data: bytes) -> bytes:
    """An archive whose sizes and offsets are all in zip64 fields, as those beyond 4 GB are."""
    count, _, start = struct.unpack("<HII", data[-12:-2])
    entries, position = b"", start
    while data[position : position + 4] == ENTRY:
        name_size, extra_size, _ = struct.unpack_from("<HHH", data, position + 28)
        stored, full = struct.unpack_from("<II", data, position + 20)
        (local,) = struct.unpack_from("<I", data, position + 42)
        extra = struct.pack("<HHQQQ", 1, 24, full, stored, local)
        entry = bytearray(data[position : position + 46])
        struct.pack_into("<II", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", entry, 30, len(extra))
        struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
        entries += bytes(entry) + data[position + 46 : position + 46 + name_size] + extra
        position += 46 + name_size + extra_size
    end_64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(entries), start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(entries), 1)
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:start] + entries + end_64 + locator + end


def test_zip64_fields() -> None:
    assert read(wide(zipped(*TWO))) == dict(TWO)


DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "has no end"),
    "no end": (lambda: zipped(*TWO)[:-1], "has no end; the file is cut short"),
    "half": (lambda: zipped(*TWO)[:60], "has no end"),
    "something after": (lambda: zipped(*TWO) + b"x", "has no end"),
    "something before": (lambda: b"PK\3\4" + zipped(*TWO), "not where it says"),
    "several disks": (lambda: patched(zipped(*TWO), END, 4, b"\1\0"), "one part of a zip"),
    "directory on another disk": (lambda: patched(zipped(*TWO), END, 6, b"\1\0"), "one part of a zip"),
    "other counts": (lambda: patched(zipped(*TWO), END, 8, b"\1\0"), "one part of a zip"),
    "too few": (lambda: patched(zipped(*TWO), END, 8, b"\1\0\1\0"), "not as long as it says"),
    "too many": (lambda: patched(zipped(*TWO), END, 8, b"\3\0\3\0"), "directory is damaged"),
    "directory elsewhere": (lambda: patched(zipped(*TWO), END, 16, b"\0\0\0\0"), "not where it says"),
    "huge directory": (lambda: patched(zipped(*TWO), END, 12, b"\xff\xff\xff\xff"), "not where it says"),
    "no entry": (lambda: patched(zipped(*TWO), ENTRY, 0, b"PK\1\1"), "directory is damaged"),
    "long name": (lambda: patched(zipped(*TWO), ENTRY, 28, b"\xff\xff"), "no text|cut short|leads outside|name"),
    "long extra": (lambda: patched(zipped(*TWO), ENTRY, 30, b"\xff\xff", which=1), "cut short"),
    "encrypted": (lambda: patched(zipped(*TWO), ENTRY, 8, b"\1\0"), "encrypted"),
    "masked": (lambda: patched(zipped(*TWO), ENTRY, 8, b"\0\x20"), "encrypted"),
    "bzip2": (lambda: zipped(*TWO, compression=zipfile.ZIP_BZIP2), "compressed by method 12"),
    "on another disk": (lambda: patched(zipped(*TWO), ENTRY, 34, b"\1\0"), "on another disk"),
    "disk in zip64": (lambda: patched(zipped(*TWO), ENTRY, 34, b"\xff\xff"), "lacks a zip64 field"),
    "size in zip64": (lambda: patched(zipped(*TWO), ENTRY, 20, b"\xff" * 8), "lacks a zip64 field"),
    "no local header": (lambda: patched(zipped(*TWO), ENTRY, 42, b"\1\0\0\0"), "not where its zip directory says"),
    "local header beyond": (lambda: patched(zipped(*TWO), ENTRY, 42, b"\xfe\xff\xff\xff"), "not where its zip"),
    "another name": (lambda: patched(zipped(*TWO), LOCAL, 30, b"b"), "is another in its own header"),
    "another method": (lambda: patched(zipped(*TWO), LOCAL, 8, b"\x08\0"), "is another in its own header"),
    "encrypted here only": (lambda: patched(zipped(*TWO), LOCAL, 6, b"\1\0"), "is another in its own header"),
    "beyond": (lambda: patched(zipped(*TWO), ENTRY, 20, b"\xff\0\0\0\xff\0\0\0"), "beyond the zip's contents"),
    "long local extra": (lambda: patched(zipped(*TWO), LOCAL, 28, b"\xff\xff", which=1), "beyond the zip's contents"),
    "two sizes": (lambda: patched(zipped(*TWO), ENTRY, 24, b"\4\0\0\0"), "stored as it is, in 5 bytes instead of 4"),
    "not utf-8": (lambda: patched(zipped(*TWO), ENTRY, 46, b"\xff"), "no text"),
    "checksum": (lambda: patched(zipped(*TWO), ENTRY, 16, b"\1\2\3\4"), "does not match its checksum"),
    "contents": (lambda: zipped(*TWO).replace(b"12345", b"12346"), "does not match its checksum"),
    "folder with contents": (lambda: zipped(("a/", b"x"), *TWO), "folder 'a/' has contents"),
    "zip64 record moved": (lambda: patched(wide(zipped(*TWO)), b"PK\6\7", 8, b"\1"), "not where it says"),
    "zip64 record long": (lambda: patched(wide(zipped(*TWO)), b"PK\6\6", 4, b"\x2d"), "not as long as it says"),
    "two directories": (lambda: patched(wide(zipped(*TWO)), END, 16, b"\0\0\0\0"), "contradict each other"),
    "two counts": (lambda: patched(wide(zipped(*TWO)), END, 10, b"\1\0"), "contradict each other"),
    "disks in zip64": (lambda: patched(wide(zipped(*TWO)), b"PK\6\7", 16, b"\2"), "not where it says"),
    "field cut short": (lambda: patched(wide(zipped(*TWO)), ENTRY, 46 + 10 + 2, b"\x19"), "cut short|not as long"),
    "field missing": (lambda: patched(wide(zipped(*TWO)), ENTRY, 46 + 10 + 2, b"\x08"), "lacks a zip64 field"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_said_in_one_line(damage: str) -> None:
    make, message = DAMAGE[damage]
    with pytest.raises(CorruptFileError, match=message) as caught:
        read(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "a//b", "a/./b", "C:/x", "c:x", "a\\..\\x", "\\\\host\\x",
        "a\nb", "a\x1b[31m", "a\u202eb", "x" * 600,
    ],
)  # fmt: skip
def test_names_that_lead_outside(name: str) -> None:
    with pytest.raises(UnsafeFileError, match="leads outside") as caught:
        read(zipped((name, b"x"), *TWO))
    assert str(caught.value).isprintable()


def test_names_with_a_zero_byte() -> None:
    with pytest.raises(UnsafeFileError, match="leads outside"):
        read(zipped(("a_b", b"x")).replace(b"a_b", b"a\0b"))


def test_links() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("a/data/0")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="is a link"):
        read(buffer.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_given_twice() -> None:
    with pytest.raises(UnsafeFileError, match=r"lists 'a/data\.pkl' twice"):
        read(zipped(*TWO, TWO[0]))


def test_members_that_share_bytes() -> None:
    """Two entries of the directory for one local header, whose name both then have to have; and one inside another."""
    inner = zipped(("b", b"inside"))
    data = zipped(("a", inner))
    start = data.index(ENTRY, data.index(inner) + len(inner))
    local = data.index(inner)
    entry = bytearray(inner[inner.index(ENTRY) : inner.index(END)])
    struct.pack_into("<I", entry, 42, local)
    directory = data[start : data.index(END, start)] + bytes(entry)
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 2, 2, len(directory), start, 0)
    with pytest.raises(UnsafeFileError, match="'a' and 'b' share bytes"):
        read(data[:start] + directory + end)


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "SLACK", 1 << 20)
    zeros = ("a/data/0", bytes(4 << 20))
    with pytest.raises(UnsafeFileError, match=r"zip of [\d,]+ bytes unpacks to 4,194,304"):
        read(zipped(zeros, compression=zipfile.ZIP_DEFLATED))
    assert read(zipped(zeros))[zeros[0]] == zeros[1]


@pytest.mark.parametrize("size", [0, 999, 1001])
def test_what_unpacks_to_another_size(size: int) -> None:
    data = zipped(("a", bytes(1000)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptFileError, match=f"does not unpack to {size:,} bytes"):
        read(patched(data, ENTRY, 24, struct.pack("<I", size)))


def test_what_does_not_unpack() -> None:
    data = bytearray(zipped(("a", bytes(range(256)) * 4), compression=zipfile.ZIP_DEFLATED))
    data[31:60] = b"\xff" * 29
    with pytest.raises(CorruptFileError, match=r"can't be unpacked|does not unpack"):
        read(bytes(data))


def test_more_members_than_any_checkpoint_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "MOST_MEMBERS", 1)
    with pytest.raises(UnsafeFileError, match="2 members"):
        read(zipped(*TWO))


def test_checksums_that_were_left_out() -> None:
    """PyTorch can be told to compute none, and then writes 0."""
    data = zipped(TWO[0])
    assert read(patched(data, ENTRY, 16, bytes(4)).replace(b"12345", b"12346")) == {"a/data.pkl": b"12346"}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        buffer = io.BytesIO()
        torch.save({"a": torch.arange(3)}, buffer)
    finally:
        torch.serialization.set_crc32_options(before)
    assert {member.crc for member in read_directory(memoryview(buffer.getvalue())).values()} == {0}


@pytest.mark.parametrize(
    "pack", [lambda: zipped(*TWO), lambda: wide(zipped(*TWO)), lambda: zipped(*TWO, compression=8)]
)
def test_every_truncation_and_every_bit(pack: Callable[[], bytes]) -> None:
    data = pack()
    for end in range(len(data)):
        with pytest.raises((CorruptFileError, UnsafeFileError)):
            read(data[:end])
    opened = 0
    for byte in range(len(data)):
        for bit in range(8):
            bad = data[:byte] + bytes([data[byte] ^ (1 << bit)]) + data[byte + 1 :]
            try:
                members = read(bad)
            except (CorruptFileError, UnsafeFileError) as error:
                assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)
                continue
            # What still opens has the same contents: dates, permissions, versions and the like were hit, or a name.
            assert list(members.values()) == [contents for _, contents in TWO]
            opened += 1
    assert opened > 100
