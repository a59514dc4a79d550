"""A file of tensors, opened by what it holds and not by its name: safetensors, and both formats of `torch.save`."""

import mmap
import stat
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from torch import Tensor

from sfumato.checkpoints.flatten import Scalar
from sfumato.checkpoints.reading import enough_memory, naming, reading
from sfumato.checkpoints.safetensors_file import (
    Opened,
    SafetensorsFile,
    check_length,
    check_names,
    is_safetensors,
    open_safetensors,
)
from sfumato.checkpoints.streaming import Place
from sfumato.checkpoints.torch_file import TorchFile, open_torch_stream, open_torch_zip
from sfumato.errors import CorruptFileError, MissingFileError

__all__ = ["TensorFile", "TensorSlice", "enough_memory", "open_tensors", "reading"]

# What people have instead of a model, by how it begins.
IMPOSTORS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a placeholder of git LFS; fetch the file itself (git lfs pull)"),
    (b"<", "a web page; download the file itself"),
    (b"{", "JSON; expected safetensors, or what torch.save writes"),
    (b"GGUF", "GGUF, which Sfumato does not read; get the model as safetensors"),
    (b"\x89HDF", "HDF5, which Sfumato does not read; get the model as safetensors"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
)


class TensorSlice(Protocol):
    """A tensor yet to be read."""

    def get_shape(self) -> list[int]:
        """Its shape."""
        ...

    def get_dtype(self) -> str:
        """Its dtype, as safetensors names it: "F16", "BF16", "I64" …"""
        ...


class TensorFile(Protocol):
    """An open file of tensors: each by its name, and mapped from the file when asked for.

    Mapped tensors may be written to, which changes memory and never the file. They outlive the file's being closed.
    """

    @property
    def others(self) -> Mapping[str, Scalar]:
        """What a pickled file holds beside tensors, such as step counts, and a word on what was left unread; none for safetensors."""
        ...

    def keys(self) -> list[str]:
        """The names of all tensors."""
        ...

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor yet to be read, which knows its shape and dtype."""
        ...

    def get_tensor(self, name: str) -> Tensor:
        """The tensor, backed by the file."""
        ...

    def place(self, name: str) -> Place | None:
        """Where the tensor's elements lie in the file one after another, as they are; None if they lie there in no such way."""
        ...

    def metadata(self) -> dict[str, str]:
        """What a safetensors file says of itself; empty for pickled files."""
        ...


@contextmanager
def open_tensors(path: Path) -> Generator[TensorFile]:
    """Open a file of tensors, of whichever format its bytes are. Nothing in it is run, imported or looked up by name.

    Raises MissingFileError if there is none, CorruptFileError if it is cut short or something else, UnsafeFileError if it asks for more
    than tensors, CheckpointError if memory does not suffice.
    """
    size = _size(path)
    with reading(path):
        opened = _open(path, size)
    if isinstance(opened, TorchFile):
        yield opened
    else:
        library, places = opened
        with library as file:
            yield SafetensorsFile(path, file, places)


def _open(path: Path, size: int) -> TorchFile | tuple[AbstractContextManager[Opened], dict[str, Place]]:
    with naming(path), path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if is_safetensors(start):
            check_length(file, size)
            opened = open_safetensors(path)
            return opened, check_names(file)
        if not start.startswith((b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")):
            raise CorruptFileError(_impostor(start))
        # Copy-on-write: what is written to a tensor stays in memory.
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        return (open_torch_zip if start.startswith(b"PK") else open_torch_stream)(mapped, path)


def _size(path: Path) -> int:
    """The size of a file. Raises MissingFileError if there is none, or something that can't be mapped, such as a pipe."""
    try:
        status = path.stat()
    except OSError as error:
        raise MissingFileError(f"{path} can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MissingFileError(f"{path} is not a file; expected one of tensors")
    return status.st_size


def _impostor(start: bytes) -> str:
    """What a file is that begins like no model."""
    for magic, what in IMPOSTORS:
        if start.lstrip().startswith(magic):
            return f"is {what}"
    if not start.strip(b"\0"):
        return "is empty" if not start else "holds zeros, as a download does that broke off"
    if start[257:262] == b"ustar":
        return "is a tar archive, as PyTorch wrote before 0.1.10; unpack it, or get the model as safetensors"
    return "is neither safetensors nor what torch.save writes; it is cut short, or something else"
