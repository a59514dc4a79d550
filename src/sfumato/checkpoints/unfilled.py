"""Building a network whose tensors are yet to come: no memory, no random numbers."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Random fills on the meta device run through PyTorch's Python reference code, which takes a second to import, and fill nothing.
_FILLS: frozenset[Callable[..., Any]] = frozenset({Tensor.normal_, Tensor.uniform_})


class _NoFills(TorchFunctionMode):
    """Passes over everything that would fill a tensor with initial values."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            return cast(Tensor, args[0] if args else given["tensor"])
        return func(*args, **given)


@contextmanager
def unfilled() -> Generator[None]:
    """Inside the block, modules are made on the meta device and not initialised."""
    with torch.device("meta"), _NoFills():
        yield
