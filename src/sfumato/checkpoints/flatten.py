"""The values of a pickle as tensors by name: nested dicts and lists joined by dots, and what is no tensor set apart."""

from collections.abc import Iterator
from typing import Any, cast

from sfumato.checkpoints.pickle_numpy import NumpyArray, array_tensor
from sfumato.checkpoints.pickle_values import Global, Instance, Pairs, as_list, as_tuple
from sfumato.checkpoints.stored_tensor import Storage, StoredTensor
from sfumato.errors import CorruptFileError

Scalar = str | int | float | bool | None
"""What a file holds beside tensors, as it is reported."""

WRAPPER = "state_dict"
"""The one name under which training checkpoints put the weights, with the state of the training beside it."""
MOST_DEPTH = 64
MOST_LETTERS = 1000
"""Of a tensor's name."""
LETTERS_PER_OPCODE = 50
"""Of all names together; a tensor takes some 30 opcodes, and its name some 60 letters."""


def flatten(value: object, *, opcodes: int) -> tuple[dict[str, StoredTensor], dict[str, Scalar]]:
    """The tensors in a pickle's value, and the rest: `{"a": {"b": tensor}, "step": 3}` is `{"a.b": tensor}` and `{"step": 3}`.

    A `state_dict` at the top is stepped into, and what is beside it is summed up rather than read. A tensor alone is called "tensor".
    The pickle's `opcodes` bound how much there can be: a few values that refer to each other may stand for more than there is memory.
    Raises CorruptFileError for values that contain themselves, and for two of one name.
    """
    tree = _Tree(opcodes + 1000)
    if not _is_wrapped(value):
        tree.add("", value)
        return tree.tensors, tree.others
    for key, item in _pairs(value):
        if key == WRAPPER:
            tree.add("", item)
    inside = {f"{WRAPPER}.{name}": found for name, found in tree.others.items()}
    tree.others = {}
    for key, item in _pairs(value):
        if key != WRAPPER:
            tree.put(tree.others, key, tree.summary(item))
    return tree.tensors, inside | tree.others


class _Tree:
    """What was found so far, and how much more may be met."""

    def __init__(self, most: int) -> None:
        self.tensors: dict[str, StoredTensor] = {}
        self.others: dict[str, Scalar] = {}
        self._left = most
        self._letters = LETTERS_PER_OPCODE * most

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        """Sort in a value and all within it."""
        self._meet(depth)
        _check_length(name)
        if isinstance(value, NumpyArray):
            value = array_tensor(value)
        if isinstance(value, StoredTensor):
            self.put(self.tensors, name or "tensor", value)
        elif isinstance(value, list | tuple):
            for key, item in _pairs(value):
                self.add(f"{name}.{key}" if name else key, item, depth + 1)
        else:
            self.put(self.others, name or "value", _scalar(value))

    def put(self, where: dict[str, Any], name: str, value: object) -> None:
        """Note a value under a name that nothing else of its kind has."""
        _check_length(name)
        self._letters -= len(name)
        if self._letters < 0:
            raise CorruptFileError("it has too many names, or too long ones")
        if name in where:
            raise CorruptFileError(f"it has two values named {name!r}")
        where[name] = value

    def summary(self, value: Any) -> Scalar:
        """A value that stands alone, or how much there is in one that does not."""
        if not isinstance(value, StoredTensor | NumpyArray | list | tuple):
            return _scalar(value)
        tensors, others = self._count(value, 0)
        counts = [f"{count:,} {what}" for count, what in ((tensors, "tensors"), (others, "values")) if count]
        return f"{' and '.join(counts) or 'nothing'}, not read"

    def _count(self, value: Any, depth: int) -> tuple[int, int]:
        self._meet(depth)
        if isinstance(value, StoredTensor | NumpyArray):
            return 1, 0
        if not isinstance(value, list | tuple):
            return 0, 1
        items = cast("list[Any]", value)
        counts = [self._count(item, depth + 1) for item in (items[1::2] if isinstance(value, Pairs) else items)]
        return sum(tensors for tensors, _ in counts), sum(others for _, others in counts)

    def _meet(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MOST_DEPTH:
            raise CorruptFileError("its values contain themselves, or each other over and over")


def _is_wrapped(value: object) -> bool:
    return isinstance(value, Pairs) and any(
        isinstance(key, str) and key == WRAPPER and isinstance(item, Pairs) and item
        for key, item in zip(value[::2], value[1::2], strict=True)
    )


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """The items of a dict, or of a list by their index, each key as text."""
    if isinstance(value, Pairs):
        items = cast("list[Any]", value)
        return ((_key(key), item) for key, item in zip(items[::2], items[1::2], strict=True))
    return ((str(index), item) for index, item in enumerate(as_list(value) or ()))


def _key(key: object, *, nested: bool = False) -> str:
    """A dict's key as text. Raises CorruptFileError for one that is no plain value."""
    if isinstance(key, str):
        _check_length(key)
        return key
    if key is None or isinstance(key, bool | int | float | bytes | Global):
        return str(_scalar(key))
    parts = as_tuple(key)
    if parts is None or nested or len(parts) > MOST_DEPTH:
        raise CorruptFileError(f"a {type(key).__name__} stands where a name belongs")
    return ", ".join(_key(part, nested=True) for part in parts)


def _check_length(name: str) -> None:
    """Raise CorruptFileError for a name that is too long, before longer ones are made of it."""
    if len(name) > MOST_LETTERS:
        raise CorruptFileError(f"it has a name of {len(name):,} letters; expected at most {MOST_LETTERS:,}")


def _scalar(value: object) -> Scalar:
    """A value as it is reported: numbers and texts as they are, of the rest what it is."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("ascii") if len(value) <= MOST_LETTERS and value.isascii() else f"{len(value):,} bytes"
    if isinstance(value, Global):
        return value.name
    if isinstance(value, Instance):
        return f"{value.name}, not read"
    if isinstance(value, complex):
        return str(value)
    return "a storage, not read" if isinstance(value, Storage) else "a type, not read"
