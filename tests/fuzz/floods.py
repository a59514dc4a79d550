"""Hostile files that run nothing: small ones that would take all the memory or all day, and such as are of the wrong types."""

import io
import json
import pickle
import stat
import struct
import zipfile
from collections.abc import Iterator

from gadgets import MAGIC, SYSTEM, VERSION, archive, good, name, tensor_pickle, text

MANY = 150_000
LONG = 2_000_000
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
ORDERED = name("collections", "OrderedDict")


def storage(kind: bytes, *, key: bytes | None = None, count: bytes = b"K\x10") -> bytes:
    """The persistent id of a storage, and the storage for it."""
    return b"(" + text("storage") + kind + (key or text("0")) + text("cpu") + count + b"tQ"


def tensor(of: bytes, *, shape: bytes = b"K\x04\x85", stride: bytes = b"K\1\x85", more: bytes = b"") -> bytes:
    """A tensor of a storage, by the second or the third function that rebuilds one."""
    function = name("torch._utils", "_rebuild_tensor_v3") if more else REBUILD
    return function + b"(" + of + b"K\0" + shape + stride + b"\x89" + ORDERED + b")R" + more + b"tR"


def floods() -> Iterator[tuple[str, bytes]]:
    """Pickles that refer to a thing of some size again and again: each would be gigabytes, or hours, if it were written out."""
    ids = storage(name("torch", "FloatStorage"))
    dimensions = b"](" + b"K\1" * 64 + b"e"
    parameters = name("torch.nn.modules.container", "ParameterDict") + b")R"
    state = b"}" + text("_parameters")
    for what, pickled in {
        "a dict of one long list over and over": b"\x80\2"
        + ORDERED
        + b"]("
        + b"N" * MANY
        + b"eq\x000]("
        + b"h\0" * MANY
        + b"e\x85R.",
        "a dict of pairs copied over and over": b"\x80\2"
        + ORDERED
        + b"]("
        + b"NN\x86" * MANY
        + b"e\x85q\x00R]"
        + (ORDERED + b"h\0Ra") * 5000
        + b"0.",
        "a set copied over and over": b"\x80\2]("
        + b"N" * MANY
        + b"e\x85q\x000]"
        + (name("builtins", "set") + b"h\0Ra") * 5000
        + b".",
        "bytes copied over and over": b"\x80\2"
        + text("x" * LONG)
        + text("latin1")
        + b"\x86q\x000]("
        + (name("_codecs", "encode") + b"h\0R") * 5000
        + b"e.",
        "a key of sixty long texts": b"\x80\2}(" + text("x" * LONG) + b"q\0" + b"h\0" * 60 + b"tK\1s.",
        "a long text as the name of each of sixty dicts": b"\x80\2"
        + text("x" * LONG)
        + b"q\x000}"
        + b"h\0}" * 60
        + b"s" * 60
        + b".",
        "long names of classes": b"\x80\4"
        + text("pytorch_lightning." + "m" * 230)
        + b"\x940"
        + text("n" * 230)
        + b"\x940]("
        + b"h\0h\1\x93" * MANY
        + b"e.",
        "tensors of many dimensions": b"\x80\2"
        + REBUILD
        + b"q\x000(("
        + ids[1:-1]
        + b"QK\0"
        + dimensions * 2
        + b"\x89Ntq\x010("
        + b"h\0h\1R" * MANY
        + b"t.",
        "parameters of themselves": b"\x80\2"
        + parameters
        + b"q\0"
        + state
        + b"}"
        + text("a")
        + b"K\1ssb"
        + (state + b"h\0sb") * 60
        + b".",
        "a storage's key of a million letters": b"\x80\2}"
        + text("w")
        + tensor(storage(name("torch", "FloatStorage"), key=text("k" * LONG)))
        + b"s.",
        "a persistent id of itself": b"\x80\2]q\0h\0aQ.",
        "tuples of tuples of tuples": b"\x80\2)"
        + b"q\x000("
        + b"h\0" * 9
        + b"t"
        + b"q\x000(h\0h\0h\0h\0h\0h\0h\0h\0h\0t" * 60
        + b".",
    }.items():
        yield f"flood: {what}", archive(pickled)
    keys = b"\x80\2](" + text("k" * LONG) + b"q\0" + b"h\0" * MANY + b"e."
    yield "flood: a stream's list of one long key over and over", MAGIC + VERSION + SYSTEM + pickle.dumps({}, 2) + keys
    yield "flood: a stream's view of a view", MAGIC + VERSION + SYSTEM + b"\x80\2(" + b"]" * 9 + b"tQ." + pickle.dumps([], 2)  # fmt: skip


def wrong_types() -> Iterator[tuple[str, bytes]]:
    """What is in the place of a type, or of another type than its place."""
    half, dtype, array = (
        name("torch", "HalfStorage"),
        name("torch", "float32"),
        name("numpy", "dtype") + text("f4") + b"\x85R",
    )
    fine = storage(half)
    for what, value in {
        "a dtype for a storage's class": tensor(storage(dtype)),
        "a numpy dtype for a storage's class": tensor(storage(array)),
        "a function for a storage's class": tensor(storage(REBUILD)),
        "a name for a storage's class": tensor(storage(text("FloatStorage"))),
        "a storage's class for a dtype": tensor(fine, more=half),
        "a name for a dtype": tensor(fine, more=text("float32")),
        "a wider dtype than the storage has room for": tensor(fine, shape=b"K\x10\x85", more=name("torch", "complex128")),
        "a count that is true": tensor(storage(half, count=b"\x88")),
        "a count that is a fraction": tensor(storage(half, count=b"G\x40\x30\0\0\0\0\0\0")),
        "a shape of fractions": tensor(fine, shape=b"G\x40\x10\0\0\0\0\0\0\x85"),
        "a shape that is a text": tensor(fine, shape=text("4")),
        "a shape of tensors": tensor(fine, shape=tensor(fine) + b"\x85"),
        "a tensor of a tensor": tensor(tensor(fine)),
        "more strides than sizes": tensor(fine, stride=b"K\1K\1\x86"),
        "a parameter of a text": name("torch._utils", "_rebuild_parameter") + text("x") + b"\x89}\x87R",
    }.items():  # fmt: skip
        yield f"wrong type: {what}", archive(b"\x80\2}" + text("w") + value + b"s.")
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for what, changed in {
        "a dtype that there is not": {"dtype": "F99"},
        "a dtype in small letters": {"dtype": "f32"},
        "a dtype that is a number": {"dtype": 32},
        "a dtype that is a class": {"dtype": "torch.float32"},
        "no dtype": {"dtype": None},
        "a wider dtype": {"dtype": "F64"},
        "a narrower dtype": {"dtype": "F16"},
        "a shape of texts": {"shape": ["1"]},
        "a shape of fractions": {"shape": [1.5]},
        "a negative size": {"shape": [-1]},
        "offsets the wrong way": {"data_offsets": [4, 0]},
        "three offsets": {"data_offsets": [0, 2, 4]},
    }.items():
        header = json.dumps({"a": entry | changed}).encode()
        yield f"wrong type: safetensors, {what}", struct.pack("<Q", len(header)) + header + bytes(4)
    for what, metadata in {
        "a number": {"a": 1},
        "no object": [],
        "an object": {"a": {"__reduce__": "os.system"}},
    }.items():
        header = json.dumps({"__metadata__": metadata, "a": entry}).encode()
        yield f"wrong type: safetensors, metadata of {what}", struct.pack("<Q", len(header)) + header + bytes(4)
    header = json.dumps({"a": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}).encode()
    yield "safetensors: truth values of other bytes", struct.pack("<Q", len(header)) + header + b"\0\1\2\xff"


def zips() -> Iterator[tuple[str, bytes]]:
    """Archives of what is no plain file, and with fields that are too long for a zip of old."""
    for what, mode in (("link", stat.S_IFLNK), ("device", stat.S_IFCHR), ("pipe", stat.S_IFIFO)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            for member in ("a/data.pkl", "a/data/0"):
                entry = zipfile.ZipInfo(member)
                entry.create_system = 3
                entry.external_attr = (mode | 0o777) << 16 if member.endswith("pkl") else 0
                target.writestr(entry, good() if member.endswith("pkl") else bytes(64))
        yield f"zip: the pickle is a {what}", buffer.getvalue()
    whole = archive(good())
    entry = whole.index(b"PK\1\2")
    for what, at, size in (("sizes", 20, 8), ("place", 42, 4)):
        yield f"zip: no zip64 field for its {what}", whole[: entry + at] + b"\xff" * size + whole[entry + at + size :]
    yield (
        "zip: a zip64 directory that is nowhere",
        whole[:-22] + b"PK\6\7" + struct.pack("<IQI", 0, 1 << 63, 1) + whole[-22:],
    )
    end = bytearray(whole[-22:])
    end[8:12] = b"\xff" * 4
    yield "zip: more members than there are", whole[:-22] + bytes(end)
    yield "zip: an archive in an archive in an archive", archive(archive(archive(good())))


def files() -> Iterator[tuple[str, bytes]]:
    """All of them."""
    yield from floods()
    yield from wrong_types()
    yield from zips()
    yield "tensor: overlapping, within its storage", archive(tensor_pickle(shape=(4, 4), stride=(1, 1)))
    yield "tensor: one number as many", archive(tensor_pickle(shape=(1 << 10, 1 << 10), stride=(0, 0)))


# What is unusual and harmless: a tensor may share its numbers with another, or with itself, and what is never read may be anything.
MAY_OPEN = (
    "tensor: overlapping, within its storage",
    "tensor: one number as many",
    "safetensors: truth values of other bytes",
)
