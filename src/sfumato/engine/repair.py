"""Half precision overflows above 65,504. What does is found, and computed in float32, as little of it as will do."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sfumato.engine.health import first_nonfinite_layer, is_finite
from sfumato.models.widening import widened

HALVES = (torch.float16, torch.bfloat16)


def repaired(
    network: nn.Module, evaluate: Callable[[], Tensor], parts: tuple[str, ...] = ()
) -> tuple[Tensor, tuple[str, ...]] | None:
    """What `evaluate` gives where more of the network is computed in float32 than `parts`, and all of these; None if all of it is not enough.

    The layer where the first NaN or infinity arises is widened, then what it lies in, up to the whole network: what overflows within
    a part need not do so at its end. Where another layer overflows afterwards, that is widened as well.
    """
    while True:
        with widened(network, parts):
            layer = first_nonfinite_layer(network, evaluate)
        if layer is None:
            with widened(network, parts):
                answer = evaluate()
            return (answer, parts) if is_finite(answer) else None
        more = next((part for part in around(layer) if part not in parts), None)
        if more is None or "" in parts:
            return None
        # What lies in the new part is wide with it.
        parts = (*(part for part in parts if not _lies_in(part, more)), more)


def around(layer: str) -> Iterator[str]:
    """A layer's dotted name, then those of what it lies in, the whole network ("") last."""
    while layer:
        yield layer
        layer = layer.rpartition(".")[0]
    yield ""


def named(parts: tuple[str, ...]) -> str:
    """The parts in words."""
    return " and ".join(repr(part) if part else "all of it" for part in parts)


def _lies_in(part: str, other: str) -> bool:
    return not other or part.startswith(f"{other}.")
