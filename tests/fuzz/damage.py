"""Good files of each kind, and what becomes of them: damaged in their bytes, or altered in their meaning, by chance that can be repeated."""

import argparse
import io
import json
import pickle
import pickletools
import random
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from gadgets import CALLS, MAGIC, SYSTEM, VERSION
from safetensors.torch import save

INTERESTING = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip


def saved(values: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(values, buffer, **options)
    return buffer.getvalue()


def values() -> list[Any]:
    """What checkpoints hold, small."""
    base = torch.arange(24.0)
    return [
        {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.float16)},
        OrderedDict(
            weight=base.view(4, 6).t(), view=base[3:9], half=torch.ones(2, 2).bfloat16(), flag=torch.tensor([True, False]),
            number=torch.tensor(3), empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(torch.ones(2)), i=torch.arange(3, dtype=torch.int16),
        ),
        {
            "state_dict": torch.nn.Linear(3, 2).state_dict(), "epoch": 3, "global_step": 1 << 40, "lr": np.float64(0.1),
            "callbacks": {argparse.Namespace: {"best": torch.ones(1), "path": "x"}}, "hyper_parameters": argparse.Namespace(a=1, b=[1.5, None]),
            "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.999), "params": [0]}]}],
        },
        {"array": np.arange(6, dtype=">f4").reshape(2, 3), "bytes": b"ab\xff", "set": {1, 2}, "complex": 1 + 2j, "c": torch.ones(2) * 1j},
        [torch.ones(2, 3), torch.zeros(3)],
        {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 4))}), "name": "ü", "step": None},
        {"u": torch.ones(3).to(torch.uint16), "f8": torch.ones(3).to(torch.float8_e5m2)},
    ]  # fmt: skip


def repacked(data: bytes, compression: int) -> bytes:
    return packed(members_of(data), compression=compression)


@cache
def members_of(data: bytes) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        return tuple((name, source.read(name)) for name in source.namelist())


def packed(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w", compression) as target:
            for name, contents in members:
                # An entry of its own has a time that is always the same.
                target.writestr(zipfile.ZipInfo(name), contents, compression)
    return buffer.getvalue()


def seeds(kind: str) -> list[bytes]:
    """Good files of a kind."""
    if kind == "safetensors":
        tensors = {
            "a": torch.arange(6.0).view(2, 3),
            "b.weight": torch.ones(3, dtype=torch.float16),
            "n": torch.tensor(7),
        }
        every = {str(dtype): torch.ones(2).to(dtype) for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.complex64)}  # fmt: skip
        return [save(tensors), save(every, {"format": "pt", "note": "ü" * 9}), save({"e": torch.zeros(0, 3)}), save({})]
    old = kind == "stream"
    files = [
        saved(value, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
        for value in values()
        for protocol in (2, 4)
        if not (old and isinstance(value, dict) and "u" in value)
    ]
    if kind == "archive":
        files += [repacked(file, zipfile.ZIP_DEFLATED) for file in files[:4]]
    return files


# --- damage to bytes


def flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(data))
        data[at] ^= 1 << draw.randrange(8)


def set_bytes(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(len(data))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def set_number(data: bytearray, draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at = draw.randrange(max(1, len(data) - size + 1))
    number = (draw.choice(INTERESTING) + draw.choice((0, 0, 1, -1))) % (1 << 8 * size)
    data[at : at + size] = number.to_bytes(size, draw.choice(("little", "little", "big")))


def cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def remove(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 2, 4, 8, 64))]


def repeat(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    part = data[at : at + draw.choice((1, 4, 16, 64, 256))]
    to = draw.choice((at, draw.randrange(len(data))))
    data[to:to] = part * draw.choice((1, 1, 2, 50))


def insert(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.randbytes(draw.choice((1, 2, 8, 32)))


def append(data: bytearray, draw: random.Random) -> None:
    data += draw.choice((b"\0", b"PK\5\6" + bytes(18), draw.randbytes(20)))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip, flip, set_bytes, set_number, set_number, cut, remove, repeat, insert, append,
)  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if changed:
            draw.choice(DAMAGES)(changed, draw)
    return bytes(changed)


# --- damage to what the bytes mean


def opcode(draw: random.Random) -> bytes:
    """An opcode with an argument of some sense."""
    letters = draw.choice(
        (b"a", b"storage", b"cpu", b"0", b"state_dict", b"_parameters", b"\xff\xc3", b"os", b"system", b"x" * 300)
    )
    number = draw.choice(INTERESTING) % (1 << 31)
    module, name = draw.choice(NAMES)
    plain = b"(012N\x88\x89]})aesut\x85\x86\x87RRR\x81\x92\x93bQ\x94\x8f\x90\x91.ldo\x97\x98"
    return draw.choice(
        (
            bytes([draw.choice(plain)]),
            b"J" + struct.pack("<i", draw.choice((-1, 1)) * number % (1 << 31) - draw.choice((0, 1))),
            b"K" + bytes([number % 256]),
            b"\x8a" + bytes([4]) + struct.pack("<I", number),
            b"G" + struct.pack(">d", draw.choice((0.0, 1.5, float("nan"), 1e308))),
            b"X" + struct.pack("<I", len(letters)) + letters,
            b"U" + bytes([len(letters) % 256]) + letters[: len(letters) % 256],
            b"C" + bytes([len(letters) % 256]) + letters[: len(letters) % 256],
            b"h" + bytes([number % 30]),
            b"q" + bytes([number % 30]),
            b"r" + struct.pack("<I", number),
            b"c" + module + b"\n" + name + b"\n",
            draw.choice((b"i", b"I", b"S", b"P", b"g")) + b"os\nsystem\n",
            draw.choice((b"\x82", b"\x83\0", b"\x84\0\0\0")) + b"\1",
        )
    )


def names() -> list[tuple[bytes, bytes]]:
    from sfumato.checkpoints.pickle_globals import GLOBALS, INERT

    known = [full.rpartition(".")[::2] for full in (*GLOBALS, *INERT, "pytorch_lightning.callbacks.ModelCheckpoint")]
    hostile = [name for name, _ in CALLS.values()]
    return [(module.encode(), name.encode()) for module, name in (*known, *known, *hostile)]


NAMES: list[tuple[bytes, bytes]] = names()


@cache
def opcodes_of(data: bytes) -> tuple[bytes, ...]:
    """The opcodes of a pickle, each with its argument."""
    places = [place for _, _, place in pickletools.genops(data) if place is not None]
    return tuple(data[start:end] for start, end in zip(places, [*places[1:], len(data)], strict=True))


def rewritten_pickle(data: bytes, draw: random.Random) -> bytes:
    """A pickle with opcodes replaced, taken out, put in, or swapped; or one of nothing but chance."""
    if draw.random() < 0.1:
        return b"\x80\2" + b"".join(opcode(draw) for _ in range(draw.randint(1, 40))) + b"."
    try:
        parts = list(opcodes_of(data))
    except Exception:
        return damaged(data, draw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(1, max(2, len(parts)))
        how = draw.randrange(5)
        if how == 0:
            parts[at : at + 1] = [opcode(draw)]
        elif how == 1:
            parts[at:at] = [opcode(draw) for _ in range(draw.randint(1, 3))]
        elif how == 2:
            del parts[at : at + draw.choice((1, 1, 3))]
        elif how == 3:
            other = draw.randrange(1, max(2, len(parts)))
            if max(at, other) < len(parts):
                parts[at], parts[other] = parts[other], parts[at]
        else:
            parts[at:at] = parts[at : at + draw.randint(1, 20)] * draw.choice((1, 1, 30))
    return b"".join(parts)


def altered_archive(data: bytes, draw: random.Random) -> bytes:
    """A whole archive, checksums and all, with one member altered, renamed, repeated or left out."""
    try:
        members = list(members_of(data))
    except Exception:
        return damaged(data, draw)
    at = next((index for index, (name, _) in enumerate(members) if name.endswith("data.pkl")), 0)
    if draw.random() < 0.25:
        at = draw.randrange(len(members))
    name, contents = members[at]
    how = draw.randrange(10)
    if how < 6:
        altered = rewritten_pickle(contents, draw) if name.endswith(".pkl") else damaged(contents or b"\0", draw)
        members[at] = (name, altered)
    elif how == 6:
        members[at] = (name, damaged(contents or b"\0", draw))
    elif how == 7:
        new = draw.choice(
            (
                "../x",
                "/x",
                "archive/data/9",
                "archive/constants.pkl",
                "archive/byteorder",
                name + "x",
                "a\\b",
                "data.pkl",
            )
        )
        members[at] = (new, contents)
    elif how == 8:
        members.append(members[draw.randrange(len(members))])
    else:
        del members[at]
    whole = packed(members, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return damaged(whole, draw) if draw.random() < 0.1 else whole


@cache
def pickles_of(data: bytes) -> tuple[bytes, ...]:
    """The five pickles of a stream, and what comes after them."""
    stream, places = io.BytesIO(data), [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        places.append(stream.tell())
    return tuple(data[start:end] for start, end in zip(places, [*places[1:], len(data)], strict=True))


def altered_stream(data: bytes, draw: random.Random) -> bytes:
    """A stream with one of its pickles, or a storage's length, altered."""
    try:
        parts = list(pickles_of(data))
    except Exception:
        return damaged(data, draw)
    at = draw.choice((3, 3, 3, 3, 4, 2, 0, 5))
    if at == 5:
        parts[5] = damaged(parts[5] or b"\0", draw)
    elif at == 0:
        parts[0:3] = draw.choice(([MAGIC, VERSION], [SYSTEM, MAGIC, VERSION], [VERSION], [MAGIC, VERSION, pickle.dumps(draw.choice(INTERESTING), 2)]))  # fmt: skip
    else:
        parts[at] = rewritten_pickle(parts[at], draw)
    return b"".join(parts)


def altered_header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else of its tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    for _ in range(draw.choice((1, 1, 2))):
        if not names:
            break
        entry = header[draw.choice(names)]
        how = draw.randrange(9)
        odd: Any = draw.choice((*INTERESTING, -1, 1.5, "1", None, [], {}, True, 10**30))
        if how == 0:
            entry["dtype"] = draw.choice(
                ("F16", "F32", "F64", "BOOL", "I64", "U8", "BF16", "F8_E5M2", "F4", "F6_E2M3", "C64", "X", "", None, 3)
            )
        elif how == 1:
            entry["shape"] = [odd] * draw.choice((0, 1, 2, 70))
        elif how == 2:
            entry["shape"] = [*entry["shape"], draw.choice((0, 1, 1, 2))]
        elif how == 3:
            entry["data_offsets"] = [draw.choice((0, 4, len(body), odd)), draw.choice((0, 4, len(body), odd))]
        elif how == 4:
            one, other = draw.choice(names), draw.choice(names)
            header[one], header[other] = header[other], header[one]
        elif how == 5:
            entry.pop(draw.choice(list(entry)))
            break
        elif how == 6:
            entry[draw.choice(("extra", "dtype2", "__metadata__"))] = odd
        elif how == 7:
            header["__metadata__"] = draw.choice(({"a": odd}, odd, {"a": "b" * 5000}, {"ü\0": "\n"}))
        else:
            header[draw.choice(("", "../x", "\0", "a\nb", "x" * 3000))] = dict(entry)
    text = json.dumps(header).encode()
    if draw.random() < 0.15 and len(text) > 4:
        at = text.index(b"{", 1) if b"{" in text[1:] else 1
        text = text[:-1] + b"," + text[1:at] + text[at:] if draw.random() < 0.5 else text.replace(b":", b": \t" * 3, 1)
    if draw.random() < 0.1:
        text += b" " * draw.randint(1, 9)
    if draw.random() < 0.1:
        body = damaged(body or b"\0", draw)
    return struct.pack("<Q", len(text) + draw.choice((0, 0, 0, 0, 1, -1))) + text + body


ALTER: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "safetensors": altered_header,
    "archive": altered_archive,
    "stream": altered_stream,
}


def mutated(kind: str, files: list[bytes], draw: random.Random) -> bytes:
    """A file of a kind, damaged in its bytes or altered in its meaning."""
    data = draw.choice(files)
    how = draw.random()
    if how < 0.45:
        return damaged(data, draw)
    if how < 0.5:
        other = draw.choice(files)
        return data[: draw.randrange(len(data))] + other[draw.randrange(len(other)) :]
    return ALTER[kind](data, draw)


def exhaustive(data: bytes) -> list[bytes]:
    """Every truncation of a file, and every flip of one bit."""
    flips = [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]
    return [data[:end] for end in range(len(data))] + flips
