"""A file's keys, put together by layer; those that belong to none are named."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sfumato.adapters.cloneofsimo import is_numbered, named
from sfumato.adapters.dialects import UNKNOWN, DialectName
from sfumato.adapters.layouts import layouts_of
from sfumato.adapters.names import Names, Place, is_old, split
from sfumato.adapters.parts import finite
from sfumato.checkpoints.keys import few
from sfumato.errors import AdapterError


@dataclass(slots=True)
class Group:
    """What a file holds for one layer: its name there, its keys, and its tensors by part."""

    name: str
    keys: list[str] = field(default_factory=list[str])
    parts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(slots=True)
class Sorted:
    """The keys of a file by layer; `by_name` has every tensor by the layer's name in the file, also of layers that the model lacks."""

    file: str
    groups: dict[Place, Group] = field(default_factory=dict[Place, Group])
    dialects: dict[DialectName, None] = field(default_factory=dict[DialectName, None])
    unmatched: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    by_name: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])

    def put(self, found: tuple[Place, DialectName], name: str, key: str, part: str, tensor: Tensor) -> None:
        """A tensor to its layer. Raises AdapterError if another one is there for the same part."""
        place, dialect = found
        self.dialects[dialect] = None
        group = self.groups.setdefault(place, Group(name))
        if part not in group.parts:
            group.keys.append(key)
            group.parts[part] = tensor
        elif same(group.parts[part], tensor):
            self.doubled.append(key)
        else:
            raise AdapterError(f"{self.file}: {key} and {few(group.keys, 1)} disagree on one part of one layer")


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bits; PyTorch compares no numbers of 8."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)))


def sort_keys(file: str, tensors: Mapping[str, Tensor], networks: Mapping[str, nn.Module]) -> Sorted:
    """Every tensor by the layer it is for. `file` is the name for messages.

    Raises AdapterError for NaN or infinity, for an algorithm that is not known, and for tensors that contradict each other.
    """
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise AdapterError(f"{file}: {key} holds NaN or infinity; the file is damaged, or its training failed")
    layouts = layouts_of(networks)
    names = Names(layouts)
    result = Sorted(file)
    if is_numbered(list(tensors)):
        known: set[str] = set()
        for key, name, part, tensor in named(tensors, networks, layouts):
            found = names.find(name)
            assert found is not None, "the order was made of the layout's names"
            result.put((found[0], "cloneofsimo"), name, key, part, tensor)
            result.by_name.setdefault(name, {})[part] = tensor
            known.add(key)
        result.unmatched += [key for key in tensors if key not in known]
        return result

    vectors = {key.removesuffix(".on_input") for key in tensors if key.endswith(".on_input")}
    for key, tensor in tensors.items():
        if (unknown := next((kind for end, kind in UNKNOWN.items() if key.endswith(end)), None)) is not None:
            raise AdapterError(
                f"{file} uses {unknown} ({key}), which Sfumato does not know; it knows LoRA, LoCon, LoHa, LoKr, DoRA, (IA)³ and full "
                "differences"
            )
        name, part = split(key) or ("", "")
        if part == "ia3_weight" and name not in vectors:
            part = ""  # some layer's own weight
        found = (names.find_old(name) if is_old(key) else names.find(name)) if part else None
        if part:
            result.by_name.setdefault(name, {})[part] = tensor
        if found is None:
            result.unmatched.append(key)
        else:
            result.put(found, name, key, part, tensor)
    return result
