"""Opens files while an audit hook watches: what Python is about to run, import, open or connect to, outside the file, is noted.

`python watch.py FILE …` prints, as JSON, for each file how it ended and what was noted.
"""

import json
import os
import pickle
import resource
import signal
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.errors import CheckpointError

# Mapping the open file, and what the interpreter reports of itself.
HARMLESS = frozenset({"mmap.__new__", "sys.unraisablehook"})


MEMORY = 512 << 20
"""Bytes of address space beyond what the process has at the start: values may take some 200 MB, texts, arrays and tensors 64 MB each."""
SLOW = 5
"""Seconds of processor time for one file."""


class Slow(BaseException):
    """A file that took longer than it may."""


def limited() -> None:
    """From here on the process gets no more than MEMORY beyond what it has, and a file no more than the time that `timed` gives it."""

    def too_slow(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGPROF, too_slow)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, most))


@contextmanager
def timed(seconds: float = SLOW) -> Generator[None]:
    """Raise Slow where the block takes longer."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Watch:
    """Notes audit events while it is used as a context, except the opening of the one file. A hook can't be taken out again."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._file: str | None = None
        sys.addaudithook(self._hook)

    def over(self, file: Path) -> "Watch":
        self._file = str(file)
        self.events = []
        return self

    def __enter__(self) -> None:
        self._armed = True

    def __exit__(self, *_: object) -> None:
        self._armed = False

    _armed = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed or event in HARMLESS or (event == "open" and str(arguments[0]) == self._file):
            return
        self._armed = False  # writing it down must not be noted in turn
        self.events.append(f"{event}{tuple(str(argument)[:80] for argument in arguments)}")
        self._armed = True


def read_all(path: Path) -> int:
    """Open a file and touch every byte of its tensors; how many tensors it has. Raises CheckpointError."""
    with open_tensors(path) as file:
        names = file.keys()
        for name in names:
            tensor = file.get_tensor(name)
            shape = file.get_slice(name).get_shape()
            assert file.get_slice(name).get_dtype()
            assert list(tensor.shape) == shape or tensor.dtype.is_floating_point
            if tensor.numel() * tensor.element_size() <= 1 << 20:
                flat = tensor.detach().reshape(-1).clone().view(torch.uint8)
                int(flat.sum(dtype=torch.int64))
        file.metadata()
        assert all(value is None or isinstance(value, str | int | float) for value in file.others.values())
        return len(names)


def warm(folder: Path) -> None:
    """Open good files, so that what is imported at first use is not taken for a file's doing."""
    from safetensors.torch import save_file

    kinds = (
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.complex64,
    )
    tensors = {str(kind): torch.ones(3).to(kind).clone() for kind in kinds}
    save_file(tensors, folder / "warm")
    read_all(folder / "warm")
    for old in (False, True):
        # PyTorch itself warns of its older format.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save({**tensors, "t": torch.ones(2, 2).t()}, folder / "warm", _use_new_zipfile_serialization=not old)
        read_all(folder / "warm")
    for wrong in (b"", b"\x80\x02.", b"PK\3\4", b"x"):
        (folder / "warm").write_bytes(wrong)
        try:
            read_all(folder / "warm")
        except CheckpointError as error:
            str(error)
    (folder / "warm").unlink()


def outcome(path: Path, watch: Watch) -> tuple[str, str]:
    """How opening a file ends: "opened", the name of the error of ours, or "FINDING"; and what was said."""
    try:
        with timed(), watch.over(path):
            count = read_all(path)
    except CheckpointError as error:
        said = str(error)
        if "\n" in said or not said.isprintable() or str(path) not in said or len(said) > 4000:
            return "FINDING", f"{type(error).__name__} says it badly: {said!r}"
        return type(error).__name__, said
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "FINDING", f"{type(error).__name__}: {str(error)[:1000]}"
    return "opened", f"{count} tensors"


def unguarded(path: Path, watch: Watch) -> tuple[str, str]:
    """The same with Python's own unpickler, to see that the watch sees."""
    with watch.over(path), path.open("rb") as file:
        pickle.load(file)
    return "opened", ""


def main() -> None:
    """Open the files that are named."""
    files = [Path(argument) for argument in sys.argv[1:] if argument != "--unguarded"]
    watch = Watch()
    warm(files[0].parent)
    found = {}
    for file in files:
        limited()
        how, said = (unguarded if "--unguarded" in sys.argv else outcome)(file, watch)
        if how == "CheckpointError":
            how = "FINDING"  # there was not enough memory
        found[file.name] = {"outcome": how, "said": said, "events": watch.events}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
