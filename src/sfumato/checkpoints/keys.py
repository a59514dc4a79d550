"""Key maps: how a file names and stores the tensors of a network, and how we do. They are data, and read both ways."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Table = tuple[tuple[str, str], ...]
"""Pairs (their name, our name) of modules, whose `.weight` and `.bias` follow, or of single parameters."""

Fused = tuple[tuple[str, tuple[str, ...]], ...]
"""Pairs of a tensor of theirs and those of ours that it holds, one under another."""

Shape = list[int]


def under(theirs: str, ours: str, table: Table) -> Table:
    """The table with every name put under a prefix; an empty prefix puts it under nothing."""
    return tuple((join(theirs, a), join(ours, b)) for a, b in table)


def repeat(count: int, theirs: str, ours: str, table: Table) -> Table:
    """The table once for each index 0 … count - 1, put in the place of `{}` in both prefixes."""
    return tuple(pair for index in range(count) for pair in under(theirs.format(index), ours.format(index), table))


def join(prefix: str, name: str) -> str:
    """Dotted name of `name` inside `prefix`, either of which may be empty."""
    return ".".join(part for part in (prefix, name) if part)


@dataclass(frozen=True, slots=True)
class KeyMap:
    """The names of one network in one layout, or of several networks in one file.

    table       used both ways
    also_read   their older names, which are read and never written
    leftovers   tensors that such files are known to hold and the network does not need; one that ends in a dot stands for all under it
    fused       tensors of theirs that hold several of ours, used both ways
    transposed  tensors of theirs that are ours with rows and columns exchanged
    pointwise   tensors of theirs that are ours as the weights of a 1 × 1 convolution; read without that too
    """

    table: Table
    also_read: Table = ()
    leftovers: frozenset[str] = frozenset()
    fused: Fused = ()
    transposed: frozenset[str] = frozenset()
    pointwise: frozenset[str] = frozenset()
    _ours: Mapping[str, str] = field(init=False, repr=False)
    _theirs: Mapping[str, str] = field(init=False, repr=False)
    _whole: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    _parts: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ours = dict((*self.table, *self.also_read))
        theirs = {b: a for a, b in self.table}
        assert len(ours) == len(self.table) + len(self.also_read), "a layout names two modules alike"
        assert len(theirs) == len(self.table), "two names of a layout mean one module"
        object.__setattr__(self, "_ours", ours)
        object.__setattr__(self, "_theirs", theirs)
        object.__setattr__(self, "_whole", dict(self.fused))
        object.__setattr__(self, "_parts", {part: whole for whole, parts in self.fused for part in parts})

    def under(self, theirs: str, ours: str) -> "KeyMap":
        """The map of a network that is part of a file under one prefix, and of a model under another."""
        return KeyMap(
            under(theirs, ours, self.table),
            under(theirs, ours, self.also_read),
            frozenset(join(theirs, name) for name in self.leftovers),
            tuple((join(theirs, whole), tuple(join(ours, part) for part in parts)) for whole, parts in self.fused),
            frozenset(join(theirs, name) for name in self.transposed),
            frozenset(join(theirs, name) for name in self.pointwise),
        )

    @classmethod
    def together(cls, maps: Sequence["KeyMap"], leftovers: Iterable[str] = ()) -> "KeyMap":
        """One map of several networks, each under its own prefixes, and the leftovers of the whole file."""
        return cls(
            tuple(pair for keys in maps for pair in keys.table),
            tuple(pair for keys in maps for pair in keys.also_read),
            frozenset(leftovers).union(*(keys.leftovers for keys in maps)),
            tuple(pair for keys in maps for pair in keys.fused),
            frozenset[str]().union(*(keys.transposed for keys in maps)),
            frozenset[str]().union(*(keys.pointwise for keys in maps)),
        )

    def is_leftover(self, key: str) -> bool:
        """Whether a tensor is one that such files are known to hold and the network does not need."""
        return any(key.startswith(name) if name.endswith(".") else key == name for name in self.leftovers)

    def to_ours(self, key: str) -> str | None:
        """Our name of a tensor that the file names `key`; None if the layout knows no such tensor, or it holds several of ours."""
        return rename(key, self._ours)

    def to_theirs(self, key: str) -> str:
        """The file's name of our tensor `key`, or of the one that it is part of. Raises KeyError if the layout has none."""
        name = self._parts.get(key) or rename(key, self._theirs)
        if name is None:
            raise KeyError(key)
        return name

    def held_in(self, key: str) -> tuple[str, ...]:
        """Our names of what a tensor of the file holds, in order; none if the layout knows no such tensor."""
        if key in self._whole:
            return self._whole[key]
        name = self.to_ours(key)
        return () if name is None else (name,)

    def shapes_of(self, key: str, ours: Sequence[Shape]) -> list[Shape]:
        """The shapes that a tensor of the file may have, that of ours as they are written first."""
        shape = ours[0]
        if len(ours) > 1:
            return [[sum(part[0] for part in ours), *shape[1:]]]
        if key in self.transposed:
            return [shape[::-1]]
        return [[*shape, 1, 1], shape] if key in self.pointwise else [shape]

    def split(self, key: str, tensor: Tensor, ours: Sequence[Shape]) -> Iterator[tuple[str, Tensor]]:
        """Our tensors that one of the file holds, of the shapes `ours`, as views of it where that will do."""
        names = self.held_in(key)
        if key in self._whole:
            yield from zip(names, torch.split(tensor, [shape[0] for shape in ours]), strict=True)
        elif key in self.transposed:
            yield names[0], tensor.T.contiguous()
        else:
            yield names[0], tensor.reshape(ours[0]) if key in self.pointwise else tensor

    def files_of(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The tensors of a file that holds ours of these names, each with those it holds, in order."""
        return {key: self.held_in(key) for key in dict.fromkeys(map(self.to_theirs, names))}

    def joined(self, key: str, ours: Sequence[Tensor]) -> Tensor:
        """A tensor of the file, made of ours that it holds."""
        if len(ours) > 1:
            return torch.cat(list(ours))
        if key in self.transposed:
            return ours[0].T
        return ours[0][..., None, None] if key in self.pointwise else ours[0]


def rename(key: str, names: Mapping[str, str]) -> str | None:
    """The new name of a tensor whose module, or which itself, is in `names`."""
    if key in names:
        return names[key]
    module, _, parameter = key.rpartition(".")
    return f"{names[module]}.{parameter}" if module in names else None


def few(names: Iterable[str], limit: int = 3) -> str:
    """The first names of many, for a message of one line; one that can't be printed as it is is quoted."""
    ordered = [name if name.isprintable() else repr(name) for name in sorted(names)]
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more


def grouped(names: Collection[str], limit: int = 3) -> str:
    """Any number of names for a message of one line: a few as they are, of more where they lie, how many in each place, and the first."""
    if len(names) <= limit:
        return few(names, limit)
    places = _places(names, limit)
    counts = [
        f"{count} in {place if place.isprintable() else repr(place)}" for place, count in places.most_common(limit)
    ]
    if elsewhere := len(names) - sum(count for _, count in places.most_common(limit)):
        counts.append(f"{elsewhere} elsewhere")
    return f"{', '.join(counts)}; the first is {few([min(names)])}"


def _places(names: Collection[str], limit: int) -> Counter[str]:
    """How many names lie under each prefix, the prefixes as long as they can be without being more than `limit`."""
    parts = [name.split(".") for name in names]

    def at(depth: int) -> Counter[str]:
        # A name's last part is its own and no place.
        return Counter(".".join(each[: min(depth, max(1, len(each) - 1))]) for each in parts)

    depth, found = 1, at(1)
    while len(deeper := at(depth + 1)) <= limit and deeper != found:
        depth, found = depth + 1, deeper
    return found
