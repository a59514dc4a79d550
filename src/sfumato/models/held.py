"""Weights that stay as their file has them, and are widened one layer at a time, while the layer runs.

A float16 file that is mapped takes no memory of the process: its pages are the system's, which takes them back when it needs them. What a
network computes in is wider; only the weights of the layer at work are held in that, and they are let go when it has answered. Widening
rounds nothing, so every layer computes what it would with weights that had been widened for good.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.network import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

_KIND = "_stands_for"
"""What a class made here says of itself: the kind of layer that it stands for."""

_wider: ContextVar[torch.dtype | None] = ContextVar("wider", default=None)


def hold(network: AnyNetwork, dtype: torch.dtype, *, channels_last: bool = False) -> AnyNetwork:
    """Let a network compute in `dtype` while its weights stay in the types, and where, they are; returns it.

    `network.dtype` is what it computes in from then on; `parameters()` and `state_dict()` are the weights as they are stored. Kernels of
    convolutions are laid out `channels_last` as they are widened, for networks whose maps are: oneDNN would copy them once more to do so.
    """
    for module in network.modules():
        if module._parameters:
            _hold(module, dtype, torch.channels_last if channels_last else torch.preserve_format)
    network.computes_in = dtype
    return network


def hold_as_stored(module: nn.Module) -> None:
    """Let the layers of a module, which are not held, widen their weights inside `widening`, and not otherwise."""
    for layer in module.modules():
        if layer._parameters and "_widened_to" not in layer.__dict__:
            _hold(layer, None, torch.preserve_format)


@contextmanager
def widening(dtype: torch.dtype) -> Generator[None]:
    """Inside the block, held layers that this thread runs widen their weights to `dtype`, whatever they do otherwise."""
    token = _wider.set(dtype)
    try:
        yield
    finally:
        _wider.reset(token)


def release(network: Network) -> None:
    """Widen a held network's weights for good, into memory of their own; one that is not held stays as it is."""
    if network.computes_in is None:
        return
    for module in network.modules():
        widen(module)
    network.computes_in = None


@torch.no_grad()
def widen(module: nn.Module) -> None:
    """Widen the weights of one layer of a held network for good; no-op for any other layer."""
    dtype, _ = module.__dict__.get("_widened_to", (None, None))
    let_go(module)
    for name, stored in module._parameters.items():
        if stored is not None and dtype is not None and stored.dtype != dtype:
            module._parameters[name] = nn.Parameter(stored.to(dtype), requires_grad=stored.requires_grad)


def is_held(network: nn.Module) -> bool:
    """Whether the layers of a network, or of what torch.compile wrapped, are widened only while they run."""
    return getattr(network, "computes_in", None) is not None


def let_go(module: nn.Module) -> None:
    """Make a layer an ordinary one again, whose weights are what is stored."""
    module.__dict__.pop("_widened_to", None)
    while (kind := type(module).__dict__.get(_KIND)) is not None:
        module.__class__ = kind


def _hold(module: nn.Module, dtype: torch.dtype | None, layout: torch.memory_format) -> None:
    let_go(module)
    module.__dict__["_widened_to"] = dtype, layout
    module.__class__ = _held(type(module), tuple(module._parameters))


@cache
def _held(kind: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """A kind of layer whose weights, by these names, are read widened. In messages and configs it goes by its own name."""
    members: dict[str, Any] = {name: property(_reader(name)) for name in names} | {_KIND: kind}
    if issubclass(kind, nn.Embedding):
        # Of a table only the rows that are looked up are widened: CLIP's has 49,408, and a prompt 77.
        members["forward"] = _looked_up
    made: Any = type(kind.__name__, (kind,), members)
    made.__module__, made.__qualname__, made.__doc__ = kind.__module__, kind.__qualname__, kind.__doc__
    return made


def _reader(name: str) -> Callable[[nn.Module], Tensor | None]:
    def read(layer: nn.Module) -> Tensor | None:
        stored = layer._parameters[name]
        dtype, layout = layer.__dict__["_widened_to"]
        wanted = _wider.get() or dtype
        if stored is None or wanted is None or wanted == stored.dtype:
            return stored
        return stored.to(wanted, memory_format=layout if stored.ndim == 4 else torch.preserve_format)

    return read


def _looked_up(layer: nn.Embedding, tokens: Tensor) -> Tensor:
    stored = layer._parameters["weight"]
    assert stored is not None, "an embedding has a table"
    dtype, _ = layer.__dict__["_widened_to"]
    return F.embedding(tokens, stored).to(_wider.get() or dtype or stored.dtype)
