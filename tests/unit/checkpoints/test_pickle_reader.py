"""Every opcode that is read, every one that is refused, and what a file can do wrong with each."""

import pickle
import pickletools
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from sfumato.checkpoints import pickle_reader
from sfumato.checkpoints.pickle_reader import REFUSED, PickleReader
from sfumato.checkpoints.pickle_values import Global, Instance, Pairs
from sfumato.errors import CheckpointError, CorruptFileError, UnsafeFileError

P2, P4 = b"\x80\2", b"\x80\4"


def read(data: bytes, persistent: Callable[[object], object] | None = None) -> Any:
    return PickleReader(memoryview(data), persistent=persistent).load()


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def plain(value: Any) -> Any:
    """What was read, with dicts as dicts."""
    if isinstance(value, Pairs):
        return {plain(key): plain(item) for key, item in zip(value[::2], value[1::2], strict=True)}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


VALUES: list[Any] = [
    None, True, False, 0, 255, 256, 65535, 65536, -1, 1 << 31, -(1 << 31) - 1, 1 << 63, 1 << 200, -(1 << 200),
    0.0, -1.5, float("inf"), 1e-300,
    "", "text", "é💡", "x" * 255, "x" * 256, "x" * 70_000, "\x00\n'\"",
    b"", b"\x00\xff", b"x" * 255, b"x" * 256, b"x" * 70_000,
    [], [1], [1, [2, [3]]], list(range(3000)), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),)),
    {}, {"a": 1}, {str(index): index for index in range(3000)}, {"a": {"b": {"c": []}}},
]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    for data in (pickle.dumps(value, protocol), pickletools.optimize(pickle.dumps(value, protocol))):
        found = plain(read(data))
        assert found == value
        assert type(found) is type(value)


def test_each_opcode_that_is_read_is_tested_here_or_written_by_python() -> None:
    written: set[str] = set()
    for protocol in (2, 3, 4, 5):
        for value in (*VALUES, 1 << 4000, {1}, frozenset({1}), bytearray(b"x"), Pairs, shared(), nested_tuple()):
            written |= {opcode.code for opcode, _, _ in pickletools.genops(pickle.dumps(value, protocol))}
    known = {code.encode("latin-1") for code in written}
    by_hand = {b"U", b"T", b"\x8d", b"\x8e", b"Q", b"b", b"\x92", b"0", b"1", b"\x8b", b"j"}
    assert PickleReader._OPCODES.keys() - {b"R", b"\x81"} <= known | by_hand
    everything = {opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
    assert everything == PickleReader._OPCODES.keys() | REFUSED.keys() | {b".", b"\x80"}


def shared() -> list[Any]:
    item: list[Any] = [1]
    return [item, item, *map(str, range(300)), item]


def nested_tuple() -> tuple[Any, ...]:
    """Tuples that contain themselves are written with POP and POP_MARK."""
    one: list[Any] = []
    four: list[Any] = []
    one.append((one,))
    four.append((1, 2, 3, four))
    return one[0], four[0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_refers_to_itself_is_read(protocol: int) -> None:
    found = read(pickle.dumps(nested_tuple(), protocol))
    assert found[0][0][0] is found[0]
    again = read(pickle.dumps(shared(), protocol))
    assert again[0] is again[1]
    assert again[0] is again[-1]


@pytest.mark.parametrize(
    ("opcodes", "expected"),
    [
        (b"U\x03abc", "abc"),
        (b"U\x02\xff\x00", b"\xff\x00"),
        (b"T\x03\0\0\0abc", "abc"),
        (b"\x8d\x03\0\0\0\0\0\0\0abc", "abc"),
        (b"\x8e\x03\0\0\0\0\0\0\0abc", b"abc"),
        (b"\x96\x03\0\0\0\0\0\0\0abc", b"abc"),
        (b"\x8b\x02\0\0\0\xff\x7f", 32767),
        (b"\x8a\x00", 0),
        (b"K\1K\x020", 1),
        (b"K\1(K\x02K\x031", 1),
        (b"K\1(0", 1),
        (b"]K\1a", [1]),
        (b"}K\1K\2s", {1: 2}),
        (b"K\1q\x00q\x00h\x00\x86", (1, 1)),
        (b"K\1r\xff\x03\0\0j\xff\x03\0\0\x86", (1, 1)),
        (b"X\x02\0\0\0\xff\xfe", "\\xff\\xfe"),
        (b"\x95\x00\x00\x00\x00\x00\x00\x00\x00N", None),
    ],
)
def test_opcodes_that_python_3_writes_seldom(opcodes: bytes, expected: Any) -> None:
    found = plain(read(P4 + opcodes + b"."))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"", "cut short"),
        (b"N", "cut short"),
        (b"K", "cut short"),
        (b"X\xff\xff\xff\xffab", "cut short: 4,294,967,295 bytes expected"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "cut short"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "cut short: a frame"),
        (b"T\xff\xff\xff\xff.", "counts -1 bytes"),
        (b".", "takes what it never put"),
        (b"0.", "takes what it never put"),
        (b"1.", "takes what it never put"),
        (b"t.", "takes what it never put"),
        (b"K\1\x86.", "takes what it never put"),
        (b"(K\1\x86.", "takes what it never put"),
        (b"q\x00.", "takes what it never put"),
        (b"\x94.", "takes what it never put"),
        (b"(.", "takes what it never put"),
        (b"NN.", "values left over"),
        (b"(N.", "values left over"),
        (b"h\x00.", "entry 0 of its memo, which was never put"),
        (b"Nq\x05h\x03.", "entry 3 of its memo, which was never put"),
        (b"j\xff\xff\xff\xff.", "entry 4,294,967,295 of its memo, which was never put"),
        (b"Nr\xff\xff\xff\xff.", "puts entry 4,294,967,295 of a memo of 1"),
        (b"\x8a\x41" + b"\1" * 65 + b".", "whole number of 65 bytes"),
        (b"\x8b\xff\xff\xff\xff.", "whole number of -1 bytes"),
        (b"\x8b\xff\xff\xff\x7f.", "whole number of 2,147,483,647 bytes"),
        (b"NK\1a.", "appends to a NoneType"),
        (b"}K\1a.", "appends to a Pairs"),
        (b")(K\1e.", "appends to a tuple"),
        (b"NK\1K\2s.", "sets items of a NoneType"),
        (b"](K\1K\2u.", "sets items of a list"),
        (b"}(K\1u.", "a key without a value"),
        (b"K\1K\2\x93.", "by other than two texts"),
        (text("a") + b"K\2\x93.", "by other than two texts"),
        (text("a" * 300) * 2 + b"\x93.", "by other than two texts"),
        (b"c" + b"a" * 600 + b"\nb\n.", "names something without end"),
        (b"cos", "names something without end"),
        (b"NQ.", "refers to a storage where there can be none"),
        (b"ccollections\nOrderedDict\nNR.", "calls collections.OrderedDict with a NoneType"),
        (b"\x80\x04N.", "no pickle opcode 0x80"),
        (b"\x00.", "no pickle opcode 0x00"),
        (b"\xff.", "no pickle opcode 0xff"),
        (b"ccollections\nOrderedDict\n)N\x92.", "gives keywords as a NoneType"),
        (b"ccollections\nOrderedDict\n)}K\1K\2s\x92.", "keywords to what takes none"),
    ],
)
def test_damage_is_said_in_one_line(opcodes: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message) as caught:
        read(P4 + opcodes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x01N.", b"\x80\x06N.", b"N.", b"(lp0\n."])
def test_other_protocols_are_no_checkpoint_s(data: bytes) -> None:
    with pytest.raises(CorruptFileError, match=r"protocol 2 to 5|cut short"):
        read(data)


@pytest.mark.parametrize("opcode", REFUSED, ids=REFUSED.get)
def test_opcodes_that_no_checkpoint_needs_are_refused_by_name(opcode: bytes) -> None:
    with pytest.raises(UnsafeFileError, match=rf"uses the opcode {REFUSED[opcode]} at byte 2 .*refused"):
        read(P2 + opcode + b"os\nsystem\n.")


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cos\nsystem\n" + text("true") + b"\x85R.", "wants to run os.system at byte 2"),
        (b"cos\nsystem\n.", "wants to run os.system"),
        (text("os") + text("system") + b"\x93.", "wants to run os.system"),
        (b"c__builtin__\neval\n.", "wants to run __builtin__.eval"),
        (b"cbuiltins\ngetattr\n.", "wants to run builtins.getattr"),
        (text("collections") + text("OrderedDict.__init__") + b"\x93.", "run collections.OrderedDict.__init__"),
        (text("pytorch_lightning") + text("os.system") + b"\x93.", "wants to run pytorch_lightning.os.system"),
        (text("pytorch_lightning\nos") + text("a") + b"\x93.", r"wants to run pytorch_lightning\?os.a"),
        (text("") + text("") + b"\x93.", "wants to run . at"),
        (text("\x1b[31m") + text("💡") + b"\x93.", r"wants to run \?\?31m.\? at"),
        (b"c\xff\nb\n.", "wants to run .xff.b"),
        (b"NN\x85R.", "wants to call a NoneType"),
        (text("os") + b")R.", "wants to call a str"),
        (b"))\x81.", "wants to call a tuple"),
        (b"cnumpy\nndarray\n)R.", "wants to call numpy.ndarray .*only a name"),
        (b"ctorch\nfloat16\n)\x81.", "wants to call torch.float16 .*only a name"),
        (b"ctorch\nFloatStorage\n)R.", "wants to call FloatStorage"),
        (b"N}b.", "change the state of a NoneType"),
        (b"]}b.", "change the state of a list"),
        (b"ccollections\nOrderedDict\n}" + text("__reduce__") + b"Nsb.", "change the state of collections.OrderedDict"),
        (b"cargparse\nNamespace\n}b.", "change the state of argparse.Namespace"),
    ],
)
def test_what_is_not_listed_is_refused_by_name(opcodes: bytes, message: str) -> None:
    with pytest.raises(UnsafeFileError, match=message) as caught:
        read(P4 + opcodes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_objects_of_listed_classes_are_kept_as_names() -> None:
    made = (
        b"cargparse\nNamespace\n)\x81}" + text("a") + b"K\1sb",
        b"cpytorch_lightning.utilities.parsing\nAttributeDict\n)\x81(" + text("a") + b"K\1u",
        b"comegaconf.listconfig\nListConfig\n)R(K\1K\2e",
        b"comegaconf.dictconfig\nDictConfig\n)}" + text("a") + b"K\1s\x92",
        b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR}b",
    )
    for opcodes in made:
        assert isinstance(read(P4 + opcodes + b"."), Instance)
    assert read(P4 + b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n.") == Global(
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", inert=True
    )


def test_persistent_ids_are_handed_over() -> None:
    seen: list[object] = []
    assert read(P2 + b"(K\1K\2tQ.", lambda identifier: seen.append(identifier) or "storage") == "storage"
    assert seen == [(1, 2)]


def test_one_pickle_after_another() -> None:
    reader = PickleReader(memoryview(b"".join(pickle.dumps(value, 2) for value in (1, "a", [2]))))
    assert [reader.load() for _ in range(3)] == [1, "a", [2]]
    with pytest.raises(CorruptFileError, match="cut short"):
        reader.load()


def test_opcodes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MOST_OPCODES", 1000)
    assert len(read(P2 + b"(" + b"N" * 900 + b"t.")) == 900
    with pytest.raises(UnsafeFileError, match="more than 1,000 opcodes"):
        read(P2 + b"(" + b"N" * 1000 + b"t.")


# Ways to make much of little: each takes a value that the memo holds, over and over.
BOMBS = {
    "encode": (
        b"c_codecs\nencode\nq\x010" + text("x" * 50_000) + b"q\x020" + text("latin1") + b"q\x030]",
        b"h\x01h\x02h\x03\x86Ra",
    ),
    "list": (b"cbuiltins\nlist\nq\x010(" + b"N" * 10_000 + b"tq\x020]", b"h\x01h\x02\x85Ra"),
    "dict": (b"ccollections\nOrderedDict\nq\x010}(" + b"N" * 10_000 + b"uq\x020]", b"h\x01h\x02\x85Ra"),
    "parameters": (
        b"ctorch.nn.modules.container\nParameterDict\nq\x010}"
        + text("_parameters")
        + b"}("
        + b"N" * 10_000
        + b"usq\x020]",
        b"h\x01)\x81h\x02ba",
    ),
    "array": (
        b"cnumpy\ndtype\n"
        + text("u1")
        + b"\x85Rq\x010cnumpy.core.numeric\n_frombuffer\nq\x020"
        + text("x" * 50_000)
        + b"q\x030]",
        b"h\x02(h\x03h\x01M\x50\xc3\x85" + text("C") + b"tRa",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_little_file_takes_little_memory(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "SLACK", 1 << 20)
    start, again = BOMBS[bomb]
    read(P4 + start + again * 3 + b".")
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="more memory than the file has bytes"):
            read(P4 + start + again * 2000 + b".")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_long_texts_of_wide_letters_are_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "SLACK", 1 << 10)
    wide = ("💡" + "x" * 5000).encode()
    with pytest.raises(UnsafeFileError, match="more memory"):
        read(P2 + b"X" + struct.pack("<I", len(wide)) + wide + b".")
    assert len(read(P2 + text("ÿ" * 5000) + b".")) == 5000


@pytest.mark.parametrize(
    "opcode",
    [
        b"]",
        b"}",
        b")",
        b"K\1",
        b"M\1\1",
        b"(",
        b"\x8c\x01a",
        b"]\x94",
        b"}q\x00",
        b"cargparse\nNamespace\n",
        b"cnumpy\ndtype\n",
    ],
    ids=repr,
)
def test_memory_grows_with_the_file(opcode: bytes) -> None:
    """No opcode takes more than some 200 bytes, which times the most opcodes is the bound that is stated."""
    count = 3_000
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read(P4 + opcode * count + b".")
        assert tracemalloc.get_traced_memory()[1] < 250 * count
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("start", "end"), [(b")", b"\x85"), (b"]", b""), (b"", b"")], ids=["tuples", "lists", "dicts"])
def test_values_nested_deep_are_no_trouble(start: bytes, end: bytes) -> None:
    """Python's own collections are freed without recursion; nothing here compares, hashes or prints them."""
    depth = 30_000
    if end:
        data = start + end * depth
    elif start:
        data = start * depth + b"a" * (depth - 1)
    else:
        data = b"}" + b"K\1}" * depth + b"s" * depth
    assert read(P4 + data + b".") is not None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_truncation_and_every_bit(protocol: int) -> None:
    data = pickle.dumps({"a": [1, 2.5, None, (1, "x", b"y")], "b": {"c": shared()[:8]}}, protocol)
    outcomes = {"read": 0, "refused": 0}
    damaged = [data[:end] for end in range(len(data))]
    damaged += [
        data[:byte] + bytes([data[byte] ^ (1 << bit)]) + data[byte + 1 :]
        for byte in range(len(data))
        for bit in range(8)
    ]
    for bad in damaged:
        try:
            read(bad)
            outcomes["read"] += 1
        except (CorruptFileError, UnsafeFileError) as error:
            assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)
            outcomes["refused"] += 1
    assert outcomes["refused"] > len(data)
