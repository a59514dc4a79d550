"""Files of tensors by what they hold: safetensors with the checks of our own, and everything that is no model."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfumato.checkpoints import safetensors_file
from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.errors import CheckpointError, CorruptFileError, MissingFileError, UnsafeFileError


def written(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (1,), start: int = 0, end: int = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_safetensors(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "model.ckpt", metadata={"made by": "a test"})
    with open_tensors(tmp_path / "model.ckpt") as file:
        assert sorted(file.keys()) == ["a", "b"]
        assert file.get_slice("a").get_shape() == [2, 3]
        assert file.get_slice("b").get_dtype() == "BF16"
        assert file.metadata() == {"made by": "a test"}
        assert file.others == {}
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_safetensors_without_metadata(tmp_path: Path) -> None:
    with open_tensors(written(tmp_path / "a", {})) as file:
        assert file.metadata() == {}
        assert file.keys() == []


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", b"", "can't be read as safetensors"),
        (b"{}x", b"", "can't be read as safetensors"),
        (b"{" * 10_000, b"", "can't be read as safetensors"),
        ({"a": entry()}, b"123", "can't be read as safetensors"),
        ({"a": entry()}, b"12345", "can't be read as safetensors"),
        ({"a": entry(), "b": entry()}, bytes(4), "can't be read as safetensors"),
        ({"a": entry(), "b": entry(start=2, end=6)}, bytes(6), "can't be read as safetensors"),
        ({"a": entry(), "b": entry(start=8, end=12)}, bytes(12), "can't be read as safetensors"),
        ({"a": entry(start=4, end=0)}, bytes(4), "can't be read as safetensors"),
        ({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(4), "can't be read as safetensors"),
        ({"a": entry(shape=(1 << 62,), end=1 << 64 - 1)}, bytes(4), "can't be read as safetensors"),
        ({"a": entry(shape=(-1,))}, bytes(4), "can't be read as safetensors"),
        ({"a": entry(shape=(1.0,))}, bytes(4), "can't be read as safetensors"),
        ({"a": entry("F33")}, bytes(4), "can't be read as safetensors"),
        ({"a": entry("F16")}, bytes(4), "can't be read as safetensors"),
        ({"a": {"dtype": "F32"}}, bytes(4), "can't be read as safetensors"),
        ({"__metadata__": {"a": 1}}, b"", "can't be read as safetensors"),
        (
            b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}",
            bytes(4),
            "its header names 'a' twice",
        ),
        (b'{"__metadata__":{"x":"1","x":"2"}}', b"", "its header names 'x' twice"),
        ({"a": entry(shape=(1,) * 65)}, bytes(4), "its tensor 'a' has 65 dimensions"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    path = written(tmp_path / "a", header, data)
    with pytest.raises(CorruptFileError, match=message) as caught, open_tensors(path):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_offsets_in_any_order_are_well(tmp_path: Path) -> None:
    header = {"a": entry(start=4, end=8), "b": entry(start=0, end=4)}
    with open_tensors(written(tmp_path / "a", header, struct.pack("<ff", 1, 2))) as file:
        assert file.get_tensor("a").tolist() == [2]


def test_headers_longer_than_the_file_or_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<Q", 1000) + b"{}")
    with (
        pytest.raises(CorruptFileError, match="its header has 1,000 bytes, and the file 10"),
        open_tensors(tmp_path / "a"),
    ):
        pass
    monkeypatch.setattr(safetensors_file, "MOST_HEADER", 100)
    written(tmp_path / "a", b"{" + b" " * 200 + b"}")
    with (
        pytest.raises(UnsafeFileError, match="its header has 202 bytes; expected at most 100"),
        open_tensors(tmp_path / "a"),
    ):
        pass


def test_booleans_and_unaligned_numbers_are_made_whole(tmp_path: Path) -> None:
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    header = {
        "b": entry("BOOL", (3,), 0, 3),
        "c": entry("C64", (2,), 3, 19),
        "f": entry("F32", (1, 1), 19, 23),
        "e": entry("F32", (0, 3), 23, 23),
    }
    data = b"\xff\0\x02" + numbers.numpy().tobytes() + struct.pack("<f", 1.5)
    with open_tensors(written(tmp_path / "a", header, data)) as file:
        assert file.get_tensor("b").view(torch.uint8).tolist() == [1, 0, 1]
        assert file.get_tensor("c").data_ptr() % 8 == 0
        assert torch.equal(file.get_tensor("c"), numbers)
        assert file.get_tensor("f").tolist() == [[1.5]]
        assert file.get_tensor("e").shape == (0, 3)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "is empty"),
        (bytes(600), "holds zeros, as a download does that broke off"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "placeholder of git LFS; fetch the file"),
        (b"<!DOCTYPE html><html>", "is a web page; download the file itself"),
        (b"\n\n  <html>", "is a web page; download the file itself"),
        (b'{"error": "not found"}', "is JSON"),
        (b"GGUF\3\0\0\0", "is GGUF"),
        (b"\x89HDF\r\n", "is HDF5"),
        (b"\x1f\x8b\x08", "compressed by gzip; unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (b"Rar!\x1a\7", "RAR archive"),
        (b"x" * 257 + b"ustar", "is a tar archive"),
        (b"PK\5\6" + bytes(18), "is neither safetensors nor what torch.save writes"),
        (b"hello, this is no model", "is neither safetensors nor what torch.save writes"),
        (b"\x80\1", "is neither safetensors nor what torch.save writes"),
        (b"\x80", "is neither safetensors nor what torch.save writes"),
        (b"\x80\2", "cut short"),
        (b"PK\3\4", "has no end; the file is cut short"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, start: bytes, message: str) -> None:
    (tmp_path / "model.ckpt").write_bytes(start)
    with pytest.raises(CorruptFileError, match=message) as caught, open_tensors(tmp_path / "model.ckpt"):
        pass
    assert str(caught.value).startswith(str(tmp_path / "model.ckpt"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_safetensors_whose_length_begins_like_a_pickle(tmp_path: Path, length: int) -> None:
    with open_tensors(written(tmp_path / "a", b"{" + b" " * (length - 2) + b"}")) as file:
        assert file.keys() == []


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
    ):
        with pytest.raises(MissingFileError, match=message), open_tensors(path):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"{}")
    (tmp_path / "a").chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"), open_tensors(tmp_path / "a"):
        pass


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """The hub's cache is made of them."""
    save_file({"a": torch.ones(1)}, tmp_path / "blob")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    with open_tensors(tmp_path / "model.safetensors") as file:
        assert file.keys() == ["a"]
