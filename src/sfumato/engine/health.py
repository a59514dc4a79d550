"""Finding the place where a number stopped being one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def is_finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite."""
    return bool(torch.isfinite(x).all())


def first_nonfinite_layer(network: nn.Module, evaluate: Callable[[], object]) -> str | None:
    """The dotted name of the first layer whose output is NaN or infinite while `evaluate` runs `network`.

    Only layers without children are watched, so that the name is the narrowest one. None if all outputs are finite.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not is_finite(output):
                found.append(name)

        return hook

    modules: list[tuple[str, nn.Module]] = list(network.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    handles = [
        module.register_forward_hook(watch(name)) for name, module in modules if next(module.children(), None) is None
    ]
    try:
        evaluate()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
