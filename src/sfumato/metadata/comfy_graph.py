"""A graph of ComfyUI, as pictures carry it: nodes by their ids, whose inputs are values or links to other nodes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sfumato.errors import MetadataError
from sfumato.metadata.draft import table

MOST_NODES = 20_000
FARTHEST = 200
"""Links that are followed one after another."""

# Nodes that hand on a value which stands in one of their own inputs, by the name of that input.
_VALUES = ("value", "text", "string", "seed", "noise_seed", "int", "float", "Value", "Text", "prompt")


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its id, its class, and its inputs, values or `[id, output]`."""

    id: str
    kind: str
    inputs: Mapping[str, Any]


class Graph:
    """The nodes of a `prompt` text. Links may lead nowhere or in circles; following one ends in any case."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        if len(nodes) > MOST_NODES:
            raise MetadataError(f"the graph has {len(nodes):,} nodes; up to {MOST_NODES:,} are read")
        self.nodes: dict[str, Node] = {}
        for id_, entry in nodes.items():
            kind = table(entry).get("class_type")
            if isinstance(kind, str):
                self.nodes[id_] = Node(id_, kind, table(table(entry).get("inputs")))
        if not self.nodes:
            raise MetadataError("the picture's graph has no nodes of ComfyUI")

    def linked(self, node: Node, *inputs: str) -> Node | None:
        """The node that the first of these inputs leads to that is a link."""
        for name in inputs:
            value = node.inputs.get(name)
            if is_link(value) and (target := self._target(value)) is not None:
                return target
        return None

    def _target(self, link: object) -> Node | None:
        return self.nodes.get(str(cast("list[object]", link)[0]))

    def chain(self, start: Node | None, *inputs: str) -> Iterator[Node]:
        """The node, the one that its first linked input leads to, and so on to the end, or to where it closes a circle."""
        seen: set[str] = set()
        while start is not None and start.id not in seen and len(seen) < FARTHEST:
            seen.add(start.id)
            yield start
            start = self.linked(start, *inputs)

    def value(self, node: Node, name: str) -> object:
        """The value of an input; where it is a link, the value that the node it leads to hands on, if that is plain. None without one."""
        found: object = node.inputs.get(name)
        for _ in range(FARTHEST):
            if not is_link(found):
                return found
            if (target := self._target(found)) is None:
                return None
            found = next((target.inputs[key] for key in (name, *_VALUES) if key in target.inputs), None)
        return None


def is_link(value: object) -> bool:
    """Whether an input is a link: a node's id and the number of one of its outputs."""
    if not isinstance(value, list) or len(cast("list[object]", value)) != 2:
        return False
    target, output = cast("list[object]", value)
    return isinstance(target, str | int) and isinstance(output, int) and not isinstance(target, bool)
