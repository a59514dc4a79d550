"""Key maps: how a file names the tensors of a network, and how we do. They are data, and read both ways."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Table = tuple[tuple[str, str], ...]
"""Pairs (their name, our name) of modules, whose `.weight` and `.bias` follow, or of single parameters."""


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
    """The names of one network in one layout.

    `table` is used both ways; `also_read` holds their older names, which are read and never written; `leftovers` are tensors that
    such files are known to hold and the network does not need; one that ends in a dot stands for all under it.
    """

    table: Table
    also_read: Table = ()
    leftovers: frozenset[str] = frozenset()
    _ours: Mapping[str, str] = field(init=False, repr=False)
    _theirs: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ours = dict((*self.table, *self.also_read))
        theirs = {b: a for a, b in self.table}
        assert len(ours) == len(self.table) + len(self.also_read), "a layout names two modules alike"
        assert len(theirs) == len(self.table), "two names of a layout mean one module"
        object.__setattr__(self, "_ours", ours)
        object.__setattr__(self, "_theirs", theirs)

    def is_leftover(self, key: str) -> bool:
        """Whether a tensor is one that such files are known to hold and the network does not need."""
        return any(key.startswith(name) if name.endswith(".") else key == name for name in self.leftovers)

    def to_ours(self, key: str) -> str | None:
        """Our name of a tensor that the file names `key`; None if the layout knows no such tensor."""
        return rename(key, self._ours)

    def to_theirs(self, key: str) -> str:
        """The file's name of our tensor `key`. Raises KeyError if the layout has none."""
        name = rename(key, self._theirs)
        if name is None:
            raise KeyError(key)
        return name


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
