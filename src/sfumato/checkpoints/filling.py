"""Tensors of networks ⇄ files, one tensor at a time: read from safetensors and pickles, written as safetensors."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.checkpoints.finite import SMALL, nonfinite
from sfumato.checkpoints.keys import KeyMap, Shape, few, grouped
from sfumato.checkpoints.reading import naming
from sfumato.checkpoints.safetensors_writer import Entry, write_safetensors
from sfumato.checkpoints.stored_tensor import DTYPES
from sfumato.checkpoints.streaming import read_as
from sfumato.checkpoints.tensor_file import TensorFile, enough_memory, open_tensors, reading
from sfumato.errors import KeyMismatchError

logger = logging.getLogger("sfumato")

WEIGHT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
WIDENED = torch.float16
"""What weights of 8 bits are opened in unless another dtype is asked for: no network computes in them, and it holds each of their values."""


def load_weights(
    network: nn.Module,
    files: Sequence[Path],
    keys: KeyMap,
    dtype: torch.dtype | None = None,
    *,
    meant: str = "its config",
) -> None:
    """Fill a network built on the meta device; each tensor is mapped from its file, or read into the dtype
    that is asked for a little at a time.

    `meant` is what the files should fit, for the error.

    Strict both ways: every tensor of the files is used or a known leftover, every one of the network filled exactly once.
    NaN and infinity in the small tensors, which are those a damaged model has too, are told to the log.
    Raises CorruptFileError for a file that is cut short or holds no tensors, UnsafeFileError for one that asks for more, CheckpointError
    if memory does not suffice, and one KeyMismatchError that names all that is amiss.
    """
    filling = _Filling(network, keys, dtype)
    for path in files:
        filling.read(path)
    filling.survey.check(files[0], meant)
    network.load_state_dict(filling.found, strict=True, assign=True)


def survey(network: nn.Module, files: Sequence[Path], keys: KeyMap) -> "Survey":
    """How files fit a network, without reading a tensor. Raises as `load_weights`, except for what doesn't fit."""
    found = Survey({name: list(tensor.shape) for name, tensor in network.state_dict().items()}, keys)
    for path in files:
        with open_tensors(path) as file:
            found.usable(path, file)
    return found


class Survey:
    """How files fit a network: which of its tensors they have, and what is amiss, by their names."""

    def __init__(self, expected: Mapping[str, Shape], keys: KeyMap) -> None:
        self.keys = keys
        self.expected = expected
        self.unexpected: list[str] = []
        self.leftovers: list[str] = []
        self.twice: list[str] = []
        self.misfits: list[str] = []
        self.bad: list[str] = []
        self._named: set[str] = set()

    def usable(self, path: Path, file: TensorFile) -> list[str]:
        """The tensors of a file that can be used as they are described; the others are noted."""
        usable: list[str] = []
        for key in file.keys():  # noqa: SIM118 (an open file is no dict, and can't be iterated)
            names = self.keys.held_in(key)
            if not names or not all(name in self.expected for name in names):
                (self.leftovers if self.keys.is_leftover(key) else self.unexpected).append(key)
                continue
            if not self._named.isdisjoint(names):
                self.twice.append(key)
                continue
            self._named.update(names)
            with reading(path):
                tensor = file.get_slice(key)
                shape, dtype = tensor.get_shape(), tensor.get_dtype()
            shapes = self.keys.shapes_of(key, self.shapes(names))
            if shape not in shapes:
                self.misfits.append(f"{key} is {shape}, not {shapes[0]}")
            elif DTYPES.get(dtype) not in WEIGHT_DTYPES:
                self.misfits.append(f"{key} is {DTYPES.get(dtype, dtype)}, not a float of 8 to 64 bits")
            else:
                usable.append(key)
        return usable

    def shapes(self, names: Sequence[str]) -> list[Shape]:
        """The shapes of tensors of ours."""
        return [self.expected[name] for name in names]

    @property
    def missing(self) -> list[str]:
        """Tensors that no file has."""
        return sorted({self.keys.to_theirs(name) for name in self.expected if name not in self._named})

    @property
    def amiss(self) -> dict[str, list[str]]:
        """What is amiss, by kind; empty if everything is there once and fits, and nothing else is."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "given twice": self.twice,
            "of the wrong shape or type": self.misfits,
        }
        return {kind: names for kind, names in kinds.items() if names}

    def check(self, path: Path, meant: str) -> None:
        """Raise KeyMismatchError for what is amiss; tell the log of damage."""
        amiss = [
            f"{len(names)} {what} ({few(names) if names is self.misfits else grouped(names)})"
            for what, names in self.amiss.items()
        ]
        if amiss:
            raise KeyMismatchError(
                f"{path} does not fit {meant}: tensors {'; '.join(amiss)}; expected the weights of the same model"
            )
        if self.bad:
            # The large tensors are left mapped: reading them all to look would take as long as reading the file.
            logger.warning(
                "%s: %d of the small tensors hold NaN or infinity (%s); what it draws will be damaged",
                path,
                len(self.bad),
                few(self.bad),
            )


class _Filling:
    """What was found so far for a network's tensors."""

    def __init__(self, network: nn.Module, keys: KeyMap, dtype: torch.dtype | None) -> None:
        self.found: dict[str, Tensor] = {}
        self.survey = Survey({name: list(tensor.shape) for name, tensor in network.state_dict().items()}, keys)
        self._keys = keys
        self._dtype = dtype

    def read(self, path: Path) -> None:
        """Take what a file has: mapped where its dtype is wanted, else read into that a little at a time."""
        with open_tensors(path) as file, path.open("rb", buffering=0) as stream:
            for key in self.survey.usable(path, file):
                with reading(path):
                    stored = DTYPES[file.get_slice(key).get_dtype()]
                dtype = self._dtype or (WIDENED if stored.itemsize == 1 else stored)
                tensor = self._tensor(path, file, stream, key, dtype)
                with enough_memory(path):
                    self.found |= self._keys.split(key, tensor, self.survey.shapes(self._keys.held_in(key)))
                if tensor.numel() <= SMALL and any(nonfinite(tensor)):
                    self.survey.bad.append(key)

    def _tensor(self, path: Path, file: TensorFile, stream: FileIO, key: str, dtype: torch.dtype) -> Tensor:
        """A tensor of the file in a dtype."""
        with reading(path):
            piece = file.get_slice(key)
            place = None if DTYPES[piece.get_dtype()] == dtype else file.place(key)
            tensor = file.get_tensor(key) if place is None else None
        with enough_memory(path), naming(path):
            if tensor is None:
                assert place is not None, "a tensor that is neither mapped nor read"
                return read_as(stream, place, piece.get_shape(), dtype)
            return tensor if tensor.dtype == dtype else tensor.to(dtype)


Change = Callable[[str, Tensor], Tensor]
"""What is done to a tensor of ours, by its name, as it is written; its shape stays."""


def save_weights(
    network: nn.Module,
    path: Path,
    keys: KeyMap,
    dtype: torch.dtype | None = None,
    change: Change | None = None,
) -> None:
    """Write a network's tensors as one safetensors file, with the layout's names and, if asked, another dtype.

    Each is changed, converted and written by itself. Raises OSError if the file can't be written or is there already.
    """
    # The readers of these layouts refuse a file that does not say which framework's memory order it is in.
    with path.open("xb") as file:
        write_safetensors(file, entries_of(network.state_dict(), keys, dtype, change), {"format": "pt"})


def entries_of(
    tensors: Mapping[str, Tensor], keys: KeyMap, dtype: torch.dtype | None = None, change: Change | None = None
) -> Iterator[Entry]:
    """What a file holds that holds our tensors, in a layout's names. Raises KeyError for one that the layout has no name for."""
    for key, names in keys.files_of(tensors).items():
        ours = [tensors[name] for name in names]
        shape = keys.shapes_of(key, [list(tensor.shape) for tensor in ours])[0]

        def make(key: str = key, names: Sequence[str] = names) -> Tensor:
            given = [tensors[name] for name in names]
            changed = given if change is None else [change(name, t) for name, t in zip(names, given, strict=True)]
            return keys.joined(key, changed)

        yield Entry(name=key, shape=tuple(shape), dtype=dtype or ours[0].dtype, make=make)
