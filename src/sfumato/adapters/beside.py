"""Adapters at run time: what they change is added beside the layers' own outputs, for one evaluation at a time.

A layer that some adapter changes carries a hook for good. What the hook adds is not the layer's business but the evaluation's: it is looked
up in a variable of the running thread, so that two threads can evaluate one network with different adapters, and a network by itself is
always the plain one.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sfumato.adapters.adapter import Adapter
from sfumato.adapters.algorithms import Change, Layer
from sfumato.adapters.layouts import layer_for
from sfumato.errors import UnsupportedError
from sfumato.models.ahead import IDLE
from sfumato.models.network import computed_in

Sides = Mapping[nn.Module, Sequence[tuple[Change, float]]]
"""What is added beside each layer: changes, each with its weight."""

_running: ContextVar[Sides | None] = ContextVar("running", default=None)

Bound = tuple[torch.device, torch.dtype, dict[nn.Module, Change]]
# An adapter's changes where a network is and in what it computes, found again at every step.
_bound: "WeakKeyDictionary[Adapter, WeakKeyDictionary[nn.Module, Bound]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Weighted:
    """An adapter, and how much of it each network gets; 0 is none of it, also where a network is not named."""

    adapter: Adapter
    weights: Mapping[str, float]

    def __hash__(self) -> int:
        return hash((self.adapter, frozenset(self.weights.items())))


@dataclass(frozen=True, slots=True)
class ActiveAdapters:
    """The adapters of one picture. What they add is summed; each is computed from the layer's own weight, so their order is no matter.

    Equal ones have equal adapters and weights: pictures that share them can share a batch.
    """

    weighted: tuple[Weighted, ...] = ()

    def changing(self, name: str) -> tuple[tuple[Adapter, float], ...]:
        """The adapters that change the network of that name, with their weights."""
        each = ((one.adapter, one.weights.get(name, 0.0)) for one in self.weighted)
        return tuple((adapter, weight) for adapter, weight in each if weight and name in adapter.changes)

    @contextmanager
    def beside(self, name: str, network: nn.Module) -> Generator[None]:
        """Inside the block, this thread evaluates `network`, a pipeline's network of that name, with these adapters.

        Raises UnsupportedError for a compiled network: what was compiled has no hooks.
        """
        changing = self.changing(name)
        if not changing:
            yield
            return
        if hasattr(network, "_orig_mod"):
            raise UnsupportedError(
                f"the {name} is compiled, and adapters can't be added beside a compiled network; merge them with fuse_lora(), or put the "
                f"network back: pipe.{name} = pipe.{name}._orig_mod"
            )
        sides: dict[nn.Module, list[tuple[Change, float]]] = {}
        for adapter, weight in changing:
            for layer, change in bound(adapter, name, network).items():
                sides.setdefault(layer, []).append((change, weight))
        # Blocks for several networks may be one in another.
        token = _running.set({**(_running.get() or {}), **sides})
        try:
            yield
        finally:
            _running.reset(token)


NO_ADAPTERS = ActiveAdapters()


def is_adapted(network: nn.Module) -> bool:
    """Whether adapters run beside layers of this network, here and now."""
    sides = _running.get()
    return sides is not None and any(layer in sides for layer in network.modules())


def bound(adapter: Adapter, name: str, network: nn.Module) -> dict[nn.Module, Change]:
    """The adapter's changes by layer of the network, where those layers are and in their precision; the layers get their hook.

    Raises AdapterError for a network that the adapter was not opened for.
    """
    of_networks = _bound.setdefault(adapter, WeakKeyDictionary())
    device, dtype = next(network.parameters()).device, computed_in(network)
    known = of_networks.get(network)
    if known is not None and known[:2] == (device, dtype):
        return known[2]
    changes: dict[nn.Module, Change] = {}
    for place, change in adapter.changes[name].items():
        layer = layer_for(change, network, place)
        changes[layer] = change.to(device, dtype)
        if add_sides not in layer._forward_hooks.values():
            layer.register_forward_hook(add_sides)
    of_networks[network] = (device, dtype, changes)
    return changes


def _beside(layer: nn.Module) -> Sequence[tuple[Change, float]]:
    """What runs beside the layer, here and now."""
    # A compiler can't look into variables of a thread; where adapters run, nothing is compiled.
    sides = None if torch.compiler.is_compiling() else _running.get()
    return () if sides is None else sides.get(layer, ())


def is_idle(layer: nn.Module) -> bool:
    """Whether nothing runs beside the layer, here and now."""
    return not _beside(layer)


def add_sides(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    """A layer's output with what runs beside it; None, which leaves the output as it is, where nothing does."""
    if not (changes := _beside(layer)):
        return None
    x = inputs[0]
    for change, weight in changes:
        if x.is_floating_point() and "_widened_to" in layer.__dict__:
            change = change.to(x.device, x.dtype)  # it may be computed wider than its network, for once
        output = output + change.side(cast("Layer", layer), x) * weight
    return output


# By this a layer knows that the hook leaves it alone (`models/ahead.py`).
setattr(add_sides, IDLE, is_idle)
