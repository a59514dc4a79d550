"""What a pickle is read into: plain values, and stand-ins for the few kinds of object that checkpoints hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch

from sfumato.errors import CorruptFileError

Arguments = tuple[Any, ...]


class Pairs(list[Any]):
    """A dict as it is being read: key, value, key, value …

    A list, because keys come from the file: hashing a number or a tuple of its choice can be made to take for ever.
    """

    __slots__ = ()


class Parameters(Pairs):
    """A `torch.nn.ParameterDict`, the container in which older textual inversions were saved."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle may use. It stands for itself: nothing is imported, and only `make` is ever called."""

    name: str
    make: Callable[[Arguments], object] | None = None
    """What calling it makes of its arguments, in our terms; None if it is not for calling."""
    dtype: torch.dtype | None = None
    """The element type, of a storage's class or of a dtype."""
    inert: bool = False
    """Whether it is a class of which nothing is made but a stand-in."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of a class that holds nothing a model needs: of it only the name is kept."""

    name: str


def arity(arguments: Arguments, least: int, most: int, what: str) -> Arguments:
    """The arguments of a call, None for those left out. Raises CorruptFileError if there are too few or too many."""
    if not least <= len(arguments) <= most:
        raise CorruptFileError(f"{what} is called with {len(arguments)} arguments")
    return arguments + (None,) * (most - len(arguments))


def as_tuple(value: object, length: int | None = None) -> Arguments | None:
    """A value that is a tuple, of that length if one is given; None if it is not."""
    if type(value) is not tuple:
        return None
    items = cast(Arguments, value)
    return items if length in (None, len(items)) else None


def as_list(value: object) -> list[Any] | None:
    """The items of a list or tuple; None for anything else, dicts included."""
    return list(cast("list[Any]", value)) if type(value) in (list, tuple) else None
