"""Parts of a network that one evaluation computes in a wider type than the rest: what overflows in half precision does not in float32.

Which parts do is not the network's business but the evaluation's: it is looked up in a variable of the running thread, so that a network by
itself, and every other evaluation of it, stays as it is.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.models.held import hold_as_stored, widening

_wide: ContextVar[frozenset[nn.Module]] = ContextVar("wide", default=frozenset())


@contextmanager
def widened(network: nn.Module, parts: Collection[str], dtype: torch.dtype = torch.float32) -> Generator[None]:
    """Inside the block, this thread computes these parts of a network, by their dotted names, in `dtype`; "" is all of it."""
    modules = [network.get_submodule(part) for part in parts]
    for module in modules:
        _prepare(module, dtype)
    token = _wide.set(_wide.get().union(modules))
    try:
        yield
    finally:
        _wide.reset(token)


def _prepare(module: nn.Module, dtype: torch.dtype) -> None:
    """Let a module ask whether it is to be wide; by itself it answers as it did."""
    hold_as_stored(module)
    if not getattr(type(module), "_asks_how_wide", False):
        module.__class__ = _asking(type(module), dtype)


@cache
def _asking(kind: type[nn.Module], dtype: torch.dtype) -> type[nn.Module]:
    """A kind of module that computes in `dtype` where that is asked for, and answers in what it was asked in."""
    plain = cast("Callable[..., Any]", kind.forward)

    def forward(self: nn.Module, *args: Any, **named: Any) -> Any:
        if self not in _wide.get():
            return plain(self, *args, **named)
        stored = next(self.parameters())
        wide_args, wide_named = cast_to((args, named), dtype)
        with widening(dtype), torch.autocast(stored.device.type, enabled=False):
            answer = plain(self, *wide_args, **wide_named)
        return cast_to(answer, stored.dtype)

    made: Any = type(kind.__name__, (kind,), {"forward": forward, "_asks_how_wide": True, "_stands_for": kind})
    made.__module__, made.__qualname__, made.__doc__ = kind.__module__, kind.__qualname__, kind.__doc__
    return made


def cast_to(value: Any, dtype: torch.dtype) -> Any:
    """A value with every tensor of floating-point numbers in it, also in tuples, tables, iterators and dataclasses, in another type.

    A type of half precision, as layers are told what to compute in, becomes that type too.
    """
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, torch.dtype):
        return dtype if value.itemsize < dtype.itemsize else value
    if isinstance(value, dict):
        return {name: cast_to(one, dtype) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, tuple | list):
        return type(value)(cast_to(one, dtype) for one in cast("tuple[Any, ...]", value))
    if isinstance(value, Iterator):
        return (cast_to(one, dtype) for one in cast("Iterator[Any]", value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: cast_to(getattr(value, one.name), dtype) for one in fields(value)})
    return value
