"""Both formats of `torch.save`: what they may hold, and what is said of those that hold something else."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.checkpoints import flatten, torch_file
from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.errors import CorruptFileError, UnsafeFileError


def saved(values: Any, *, old: bool = False, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(values, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def opened(path: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path.write_bytes(data)
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.others)  # noqa: SIM118


def rezipped(data: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None], compression: int = 0) -> bytes:
    """An archive with its members changed, or left out, as other programs would write it: unaligned."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            if (member := change(name, source.read(name))) is not None:
                target.writestr(*member)
    return buffer.getvalue()


def with_member(name: str, contents: bytes) -> Callable[[str, bytes], tuple[str, bytes]]:
    return lambda old, before: (old, contents if old == f"archive/{name}" else before)


TENSORS = {"a": torch.arange(6.0).view(2, 3), "h": torch.ones(5, dtype=torch.float16), "b": torch.tensor([True, False])}


def assert_same(tensors: dict[str, Tensor]) -> None:
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)


@pytest.mark.parametrize("old", [False, True])
def test_the_file_s_name_says_nothing(tmp_path: Path, old: bool) -> None:
    for name in ("model.safetensors", "model.ckpt", "model", "model.png"):
        assert_same(opened(tmp_path / name, saved(TENSORS, old=old))[0])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("folder", ["archive/", "a/b c/ü/", ""])
def test_archives_that_other_programs_packed(tmp_path: Path, compression: int, folder: str) -> None:
    data = rezipped(saved(TENSORS), lambda name, x: (name.replace("archive/", folder), x), compression)
    assert_same(opened(tmp_path / "a", data)[0])


def test_members_that_are_not_read_are_told(tmp_path: Path) -> None:
    def change(name: str, contents: bytes) -> tuple[str, bytes]:
        return (
            (name, contents) if name != "archive/version" else ("__MACOSX/._version", saved({"inner": torch.ones(1)}))
        )

    tensors, others = opened(tmp_path / "a", rezipped(saved(TENSORS), change))
    assert_same(tensors)
    assert others == {"members not read": "1 (__MACOSX/._version)"}


def test_another_byte_order(tmp_path: Path) -> None:
    values = {
        "f": torch.arange(6.0).view(2, 3).t(), "h": torch.ones(3, dtype=torch.float16), "u": torch.arange(3, dtype=torch.uint8),
        "c": torch.arange(3) + 1j, "l": torch.arange(4), "bf": torch.ones(2, dtype=torch.bfloat16),
    }  # fmt: skip

    def swap(data: bytes, size: int) -> bytes:
        return b"".join(data[start : start + size][::-1] for start in range(0, len(data), size))

    sizes = dict(zip(values, (4, 2, 1, 4, 8, 2), strict=True))
    order = list(values)

    def change(name: str, contents: bytes) -> tuple[str, bytes]:
        if name == "archive/byteorder":
            return name, b"big"
        if name.startswith("archive/data/"):
            return name, swap(contents, sizes[order[int(name.rpartition("/")[2])]])
        return name, contents

    tensors, _ = opened(tmp_path / "a", rezipped(saved(values), change))
    for name, value in values.items():
        assert torch.equal(tensors[name], value), name


@pytest.mark.parametrize("old", [False, True])
def test_tensors_are_mapped_and_writing_leaves_the_file_alone(tmp_path: Path, old: bool) -> None:
    data = saved({"a": torch.zeros(1000), "tied": torch.zeros(1)}, old=old)
    tensors, _ = opened(tmp_path / "a", data)
    tensors["a"].add_(1)
    assert float(tensors["a"].sum()) == 1000
    assert (tmp_path / "a").read_bytes() == data


def test_booleans_are_true_or_false_whatever_their_bytes(tmp_path: Path) -> None:
    data = saved({"b": torch.tensor([True, False, True])}).replace(b"\1\0\1", b"\xff\0\x02")
    data = rezipped(saved({"b": torch.tensor([True, False, True])}), with_member("data/0", b"\xff\0\x02"))
    found = opened(tmp_path / "a", data)[0]["b"]
    assert found.view(torch.uint8).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_member("version", b"11\n"), "version b'11' .* newest known is 10"),
        (with_member("version", b"x\n"), "version b'x'"),
        (with_member("version", b""), None),
        (with_member("version", b"1" * 100), "its version is 100 bytes"),
        (with_member("byteorder", b"middle"), "byte order 'middle'"),
        (with_member("byteorder", b"\xff"), "byte order"),
        (with_member("data/0", b"123"), "its storage '0' has 3 bytes, fewer than 6 of torch.float32"),
        (lambda name, x: (name, x + b"x" if name.endswith("data/0") else x), None),
        (lambda name, x: None if name.endswith("data/0") else (name, x), "its storage '0' is missing"),
        (lambda name, x: None if name.endswith("pkl") else (name, x), "its zip has no data.pkl"),
        (lambda name, x: (name.replace("archive/version", "other/data.pkl"), x), "its zip has 2 data.pkl"),
        (with_member("data.pkl", b""), "cut short"),
        (with_member("data.pkl", b"hello"), "no pickle of protocol 2 to 5"),
    ],
)
def test_archives_with_something_amiss(
    tmp_path: Path, change: Callable[[str, bytes], Any], message: str | None
) -> None:
    data = rezipped(saved(TENSORS), change)
    if message is None:
        assert_same(opened(tmp_path / "a", data)[0])
        return
    with pytest.raises(CorruptFileError, match=message) as caught:
        opened(tmp_path / "a", data)
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: ")
    assert "\n" not in str(caught.value)


def test_torchscript_is_a_program(tmp_path: Path) -> None:
    for name in ("constants.pkl", "code/__torch__.py"):
        data = rezipped(saved(TENSORS), lambda old, x, name=name: (old.replace("version", name), x))
        with pytest.raises(UnsafeFileError, match="TorchScript program"):
            opened(tmp_path / "a", data)


def test_damage_in_compressed_storages_names_the_file(tmp_path: Path) -> None:
    data = rezipped(saved({"a": torch.randn(1000)}), lambda name, x: (name, x), zipfile.ZIP_DEFLATED)
    position = data.index(b"archive/data/0") + 200
    (tmp_path / "a").write_bytes(data[:position] + bytes(100) + data[position + 100 :])
    with open_tensors(tmp_path / "a") as file, pytest.raises(CorruptFileError, match=r"/a: its member .*data/0'"):
        file.get_tensor("a")


# --- the older format

MAGIC = pickle.dumps(torch_file.MAGIC, 2)
VERSION = pickle.dumps(1001, 2)
SYSTEM = pickle.dumps(
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2
)


class Storage:
    """What is pickled as the persistent id of a storage."""

    def __init__(self, *identifier: Any) -> None:
        self.identifier = identifier


class Pickler(pickle.Pickler):
    """Writes persistent ids of any shape."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.identifier if isinstance(obj, Storage) else None


class Rebuild:
    """What is pickled as a call of one of PyTorch's functions."""

    def __init__(self, *arguments: Any, function: Any = torch._utils._rebuild_tensor_v2) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def dumped(value: Any) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def stream(value: Any, keys: Any, *storages: bytes, system: bytes = SYSTEM) -> bytes:
    return MAGIC + VERSION + system + dumped(value) + pickle.dumps(keys, 2) + b"".join(storages)


def float_storage(key: Any = "0", count: Any = 6, view: Any = None, kind: Any = torch.FloatStorage) -> Storage:
    return Storage("storage", kind, key, "cpu", count, view)


def floats(count: int = 6) -> bytes:
    return struct.pack("<q", count) + torch.arange(float(count)).numpy().tobytes()


def tensor(storage: Any, offset: Any = 0, shape: Any = (2, 3), stride: Any = (3, 1)) -> Rebuild:
    return Rebuild(storage, offset, shape, stride, False, {})


def test_a_stream_by_hand(tmp_path: Path) -> None:
    tensors, others = opened(tmp_path / "a", stream({"a": tensor(float_storage()), "step": 3}, ["0"], floats()))
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))
    assert others == {"step": 3}


def test_views_of_storages_as_pytorch_0_3_wrote_them(tmp_path: Path) -> None:
    view = float_storage(view=("1", 2, 4))
    tensors, _ = opened(tmp_path / "a", stream({"a": tensor(view, 1, (3,), (1,))}, ["0"], floats()))
    assert tensors["a"].tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"a": 1}, 2), "is a pickle, but not one that torch.save wrote"),
        (pickle.dumps([], 4), "is a pickle, but not one that torch.save wrote"),
        (MAGIC, "cut short"),
        (MAGIC + pickle.dumps(1002, 2), "version 1002 of PyTorch's older format"),
        (MAGIC + pickle.dumps("x", 2), r"version \? of"),
        (MAGIC + VERSION + pickle.dumps({}, 2), "does not say the byte order"),
        (MAGIC + VERSION + pickle.dumps(3, 2), "does not say the byte order"),
        (stream({"a": tensor(float_storage())}, []), "storages it lists are not those"),
        (stream({"a": tensor(float_storage())}, ["1"], floats()), "storages it lists are not those"),
        (stream({"a": tensor(float_storage())}, ["0", "0"], floats(), floats()), "storages it lists are not those"),
        (stream({"a": tensor(float_storage())}, [0], floats()), "storages it lists are not those"),
        (stream({"a": tensor(float_storage())}, {"0": 1}, floats()), "storages it lists are not those"),
        (stream({"a": tensor(float_storage())}, ["0"]), "cut short before its last storage"),
        (stream({"a": tensor(float_storage())}, ["0"], floats()[:-1]), "its storage '0' is cut short"),
        (stream({"a": tensor(float_storage())}, ["0"], floats(), b"x"), "1 bytes after its last storage"),
        (stream({"a": tensor(float_storage())}, ["0"], floats(5)), "has 5 elements instead of 6"),
        (stream({"a": tensor(float_storage())}, ["0"], struct.pack("<q", -6)), "has -6 elements instead of 6"),
        (
            stream([tensor(float_storage()), tensor(float_storage(count=7))], ["0"], floats()),
            "its storage '0' has 24 bytes here and 28 there",
        ),
        (stream({"a": tensor(float_storage(view=("1", 3, 4)))}, ["0"], floats()), "view of its storage '0'"),
        (stream({"a": tensor(float_storage(view=("1", -1, 4)))}, ["0"], floats()), "view of its storage '0'"),
        (stream({"a": tensor(float_storage(view="x"))}, ["0"], floats()), "view of its storage '0'"),
    ],
)
def test_streams_with_something_amiss(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message) as caught:
        opened(tmp_path / "a", data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ((), "not that of a storage"),
        (("storage",), "not that of a storage"),
        (("module", 1, 2, 3), "a module's class is no class"),
        (("other", torch.FloatStorage, "0", "cpu", 6, None), "not that of a storage"),
        ((["storage"], torch.FloatStorage, "0", "cpu", 6, None), "not that of a storage"),
        (("storage", torch.FloatStorage, "0", "cpu", 6), "not that of a storage"),
        (("storage", torch.FloatStorage, "0", "cpu", 6, None, None), "not that of a storage"),
        (("storage", torch.FloatStorage, 0, "cpu", 6, None), "no key, place and length"),
        (("storage", torch.FloatStorage, ["0"], "cpu", 6, None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", 7, 6, None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", "cpu", "6", None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", "cpu", -6, None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", "cpu", 6.0, None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", "cpu", True, None), "no key, place and length"),
        (("storage", torch.FloatStorage, "0", "cpu", 1 << 62, None), "no key, place and length"),
        (("storage", "FloatStorage", "0", "cpu", 6, None), "a str stands where a storage's class belongs"),
        (("storage", torch.float32, "0", "cpu", 6, None), "a Global stands where a storage's class belongs"),
        (("storage", dict, "0", "cpu", 6, None), "a Global stands where a storage's class belongs"),
    ],
)
def test_persistent_ids_of_another_shape(tmp_path: Path, identifier: tuple[Any, ...], message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        opened(tmp_path / "a", stream({"a": tensor(Storage(*identifier))}, ["0"], floats()))


@pytest.mark.parametrize("identifier", [b"K\1", b"X\x07\0\0\0storage", b"N", b"]", b")", b"}"])
def test_persistent_ids_that_are_no_tuples(tmp_path: Path, identifier: bytes) -> None:
    for data in (
        MAGIC + VERSION + SYSTEM + b"\x80\2" + identifier + b"Q." + pickle.dumps([], 2),
        rezipped(saved(TENSORS), with_member("data.pkl", b"\x80\2" + identifier + b"Q.")),
    ):
        with pytest.raises(CorruptFileError, match="not that of a storage"):
            opened(tmp_path / "a", data)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (tensor(3), "made of a int instead of a storage"),
        (tensor({"a": 1}), "made of a Pairs instead of a storage"),
        (tensor(float_storage(), 1), r"shape \[2, 3\], strides \[3, 1\] and offset 1 reaches beyond its storage of 6"),
        (tensor(float_storage(), 0, (3, 3), (3, 1)), "reaches beyond"),
        (tensor(float_storage(), 0, (2, 3), (4, 1)), "reaches beyond"),
        (tensor(float_storage(), 0, (2, 3), (1 << 47, 1)), "reaches beyond"),
        (tensor(float_storage(), 7, (1,), (1,)), "reaches beyond"),
        (tensor(float_storage(), 6, (), ()), "reaches beyond"),
        (tensor(float_storage(), 0, (1 << 40, 1 << 40), (0, 0)), "reaches beyond"),
        (tensor(float_storage(), -1), "not whole numbers that go together"),
        (tensor(float_storage(), 0, (-2, 3)), "not whole numbers that go together"),
        (tensor(float_storage(), 0, (2, 3), (-3, 1)), "not whole numbers that go together"),
        (tensor(float_storage(), 0, (2, 3), (1,)), "not whole numbers that go together"),
        (tensor(float_storage(), 0.0), "not whole numbers that go together"),
        (tensor(float_storage(), True), "not whole numbers that go together"),
        (tensor(float_storage(), 0, (1 << 60,), (0,)), "not whole numbers that go together"),
        (tensor(float_storage(), 0, "23"), "not whole numbers that go together"),
        (tensor(float_storage(), 0, {"a": 1}), "not whole numbers that go together"),
        (tensor(float_storage(), 0, (1,) * 65, (1,) * 65), "65 dimensions"),
        (Rebuild(), "called with 0 arguments"),
        (Rebuild(*range(8)), "called with 8 arguments"),
        (Rebuild(float_storage(), 0, (6,), (1,), False, {}, {"conj": True}), "conjugated or negated"),
        (Rebuild(float_storage(), 0, (6,), (1,), function=torch._utils._rebuild_tensor), None),
        (Rebuild(tensor(float_storage()), False, {}, function=torch._utils._rebuild_parameter), None),
        (Rebuild(3, False, {}, function=torch._utils._rebuild_parameter), "parameter is made of a int"),
        (
            Rebuild(tensor(float_storage()), False, {}, {"a": 1}, function=torch._utils._rebuild_parameter_with_state),
            None,
        ),
        (
            Rebuild(float_storage(), 0, (6,), (1,), False, {}, torch.float32, function=torch._utils._rebuild_tensor_v3),
            None,
        ),
        (
            Rebuild(float_storage(), 0, (6,), (1,), False, {}, torch.float64, function=torch._utils._rebuild_tensor_v3),
            "reaches beyond its storage of 3 elements",
        ),
        (
            Rebuild(float_storage(), 0, (6,), (1,), False, {}, "float", function=torch._utils._rebuild_tensor_v3),
            "a str stands where a dtype belongs",
        ),
        (
            Rebuild(float_storage(), 0, (6,), (1,), False, {}, torch.HalfStorage, function=torch._utils._rebuild_tensor_v3),
            "a Global stands where a dtype belongs",
        ),
        (
            Rebuild(
                torch._utils._rebuild_tensor_v2,
                torch.Tensor,
                (float_storage(), 0, (6,), (1,), False, {}),
                {"note": "x"},
                function=torch._tensor._rebuild_from_type_v2,
            ),
            None,
        ),
        (
            Rebuild(dict, torch.Tensor, (), {}, function=torch._tensor._rebuild_from_type_v2),
            "not made as tensors are",
        ),
        (
            Rebuild(tensor(float_storage()), torch.float16, "xla:0", False, function=torch._utils._rebuild_device_tensor_from_cpu_tensor),
            None,
        ),
        (
            Rebuild(3, torch.float16, "xla:0", False, function=torch._utils._rebuild_device_tensor_from_numpy),
            "a device's tensor is made of a int",
        ),
    ],
)  # fmt: skip
def test_what_tensors_are_made_of(tmp_path: Path, made: Rebuild, message: str | None) -> None:
    data = stream({"a": made}, ["0"], floats())
    if message is None:
        found = opened(tmp_path / "a", data)[0]["a"]
        assert found.flatten().tolist() == [0, 1, 2, 3, 4, 5]
        return
    with pytest.raises(CorruptFileError, match=message) as caught:
        opened(tmp_path / "a", data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [torch._utils._rebuild_sparse_tensor, torch._utils._rebuild_qtensor, torch._utils._rebuild_meta_tensor_no_storage, torch.storage._load_from_bytes])  # fmt: skip
def test_tensors_that_no_checkpoint_of_ours_has(tmp_path: Path, function: Any) -> None:
    with pytest.raises(UnsafeFileError, match=rf"wants to run {function.__module__}\.{function.__name__} "):
        opened(tmp_path / "a", stream({"a": Rebuild(1, 2, function=function)}, []))


def test_repeated_and_overlapping_tensors_may_not_take_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_file, "SLACK", 1 << 10)
    small = {"a": tensor(float_storage(), 0, (5, 6), (0, 1)), "b": tensor(float_storage(), 0, (3, 4), (1, 1))}
    assert opened(tmp_path / "a", stream(small, ["0"], floats()))[0]["b"].tolist()[1] == [1, 2, 3, 4]
    with pytest.raises(UnsafeFileError, match=r"tensors of 24,000,000 bytes in a file of [\d,]+"):
        opened(tmp_path / "a", stream({"a": tensor(float_storage(), 0, (1_000_000, 6), (0, 1))}, ["0"], floats()))
    many = [tensor(float_storage()) for _ in range(1000)]
    assert len(opened(tmp_path / "a", stream(many, ["0"], floats()))[0]) == 1000


def test_one_number_has_plain_strides_whatever_its_file_says(tmp_path: Path) -> None:
    """PyTorch calls it contiguous, and fails to look at its bytes, as whoever writes it does."""
    odd = torch.arange(6.0).as_strided((1, 1), (6, 3), 2)
    found = opened(tmp_path / "a", saved({"a": odd}))[0]["a"]
    assert found.stride() == (1, 1)
    assert found.reshape(-1).view(torch.uint8).view(torch.float32).tolist() == [2]


# --- what would take the machine


def test_the_storages_of_a_stream_are_compared_without_sorting_them(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="storages it lists are not those"):
        opened(tmp_path / "a", stream({"a": tensor(float_storage())}, ["0", "0"], floats()))
    with pytest.raises(CorruptFileError, match="storages it lists are not those"):
        opened(tmp_path / "a", stream({"a": tensor(float_storage())}, ["1"], floats()))


def test_a_pickle_that_unpacks_to_more_than_any_checkpoint_s_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = rezipped(saved({"a": INNER, "b": "x" * 5000}), lambda *member: member, zipfile.ZIP_DEFLATED)
    assert opened(tmp_path / "a", packed)[1]["b"] == "x" * 5000
    monkeypatch.setattr(torch_file, "MOST_PACKED", 5000)
    with pytest.raises(UnsafeFileError, match=r"its pickle unpacks to 5,\d+ bytes; expected at most 5,000"):
        opened(tmp_path / "a", packed)


# --- names

INNER = torch.ones(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a.b": INNER, "a": {"b": INNER}}, "two values named 'a.b'"),
        ({"a": INNER, b"a": INNER}, "two values named 'a'"),
        ({1: INNER, "1": INNER}, "two values named '1'"),
        ({"a" * 1001: INNER}, "a name of 1,001 letters"),
        ({(1, (2, 3)): INNER}, "a tuple stands where a name belongs"),
        ({frozenset({1}): INNER}, "a list stands where a name belongs"),
    ],
)
def test_names(tmp_path: Path, values: dict[Any, Any], message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        opened(tmp_path / "a", saved(values))


def test_values_that_contain_themselves(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    doubled: list[Any] = [INNER]
    for _ in range(60):
        doubled = [doubled, doubled]
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    for values in (loop, doubled, deep, {"state_dict": {"a": INNER}, "other": loop}, {"state_dict": {"a": doubled}}):
        with pytest.raises(CorruptFileError, match="contain themselves, or each other over and over"):
            opened(tmp_path / "a", saved(values))


def test_long_names_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatten, "LETTERS_PER_OPCODE", 1)
    values = {"x" * 900: {str(index): None for index in range(1000)}}
    with pytest.raises(CorruptFileError, match="too many names, or too long ones"):
        opened(tmp_path / "a", saved(values))


def test_wrapped_weights(tmp_path: Path) -> None:
    tensors, others = opened(tmp_path / "a", saved({"state_dict": {"a": INNER}, "epoch": 3, "ema": {"a": INNER}}))
    assert list(tensors) == ["a"]
    assert others == {"epoch": 3, "ema": "1 tensors, not read"}
    assert list(opened(tmp_path / "a", saved({"state_dict": {}, "a": INNER}))[0]) == ["a"]
    assert list(opened(tmp_path / "a", saved({"state_dict": INNER}))[0]) == ["state_dict"]
    assert list(opened(tmp_path / "a", saved({"model": {"a": INNER}}))[0]) == ["model.a"]


def test_python_2_s_dicts_of_pairs(tmp_path: Path) -> None:
    pairs = b"\x80\2ccollections\nOrderedDict\n](U\x01ah\x00\x86U\x01bK\2\x86e\x85R."
    with pytest.raises(CorruptFileError, match="memo"):
        opened(tmp_path / "a", rezipped(saved(TENSORS), with_member("data.pkl", pairs)))
    pairs = pairs.replace(b"h\x00", b"K\1")
    assert opened(tmp_path / "a", rezipped(saved(TENSORS), with_member("data.pkl", pairs)))[1]["b"] == 2
