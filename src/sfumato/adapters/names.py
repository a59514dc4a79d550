"""From a key of a file to the layer it is for and the part it holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfumato.adapters.dialects import DIALECTS, IA3_VECTOR, OLD_PROJECTIONS, PARTS, PROCESSOR, DialectName
from sfumato.checkpoints.keys import KeyMap

Layouts = Mapping[str, Sequence[KeyMap]]
"""The key maps of each network of a model, by the network's name in a pipeline."""

ENDS = sorted(PARTS, key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A layer: the network it is in, and its name there."""

    network: str
    layer: str


class Names:
    """Every name by which files know the layers of a model."""

    def __init__(self, layouts: Layouts) -> None:
        self._places: dict[str, tuple[Place, DialectName]] = {}
        for name, place, dialect in all_names(layouts):
            self._places.setdefault(name, (place, dialect))

    def find(self, name: str) -> tuple[Place, DialectName] | None:
        """The layer that a file calls so, and the dialect in which it does; None if the model has no such layer."""
        return self._places.get(name) or self._places.get(name.replace(PROCESSOR, ""))

    def find_old(self, name: str) -> tuple[Place, DialectName] | None:
        """The layer that diffusers once called so, when its projections' names were the same in every network."""
        attention, _, projection = name.replace(PROCESSOR, "").rpartition(".")
        for current in OLD_PROJECTIONS.get(projection, (projection,)):
            if (found := self._places.get(f"{attention}.{current}")) is not None:
                return found[0], "old diffusers"
        return None


def all_names(layouts: Layouts) -> Iterator[tuple[str, Place, DialectName]]:
    """Every name a layer may go by, in every dialect and layout."""
    for dialect in DIALECTS:
        for network, maps in layouts.items():
            for prefix in dialect.prefixes.get(network, ()):
                for theirs, ours in (pair for keys in maps for pair in (*keys.table, *keys.also_read)):
                    yield prefix + theirs.replace(".", dialect.separator), Place(network, ours), dialect.name


def split(key: str) -> tuple[str, str] | None:
    """A key as the layer's name and the part's; None if its end is no part's. `.weight` alone is (IA)³'s vector, perhaps."""
    end = next((end for end in ENDS if key.endswith(end)), None)
    if end is not None:
        return key.removesuffix(end), PARTS[end]
    return (key.removesuffix(IA3_VECTOR), "ia3_weight") if key.endswith(IA3_VECTOR) else None


def is_old(key: str) -> bool:
    """Whether a key is named as diffusers' attention processors once named it."""
    return key.endswith(("_lora.down.weight", "_lora.up.weight"))
