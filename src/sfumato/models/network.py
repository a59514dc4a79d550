"""What every network of a pipeline has besides its layers: where it is, and a config that also answers to the field's names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sfumato.models.weight_state import counting


class Network(nn.Module):
    """A module that says where its weights are and what it computes in.

    `computes_in` is set where that is not what its weights are stored in: see `models.held`.
    """

    computes_in: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return computed_in(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What moves and casts a module.
        with counting(self):
            return super()._apply(fn, recurse)


def computed_in(network: nn.Module) -> torch.dtype:
    """What a network computes in, or one that torch.compile has wrapped."""
    return getattr(network, "computes_in", None) or next(network.parameters()).dtype


class NamedConfig:
    """A config that can also be read by the names it has in diffusers or transformers, and like a mapping of these names.

    `config.channels`, `config.block_out_channels` and `config["block_out_channels"]` are the same value.
    """

    __slots__ = ()
    field_names: ClassVar[Mapping[str, str]] = {}
    """The field's name → ours, where they differ."""

    # Hidden from type checkers: our own code keeps to our own names.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).field_names:
                return getattr(self, type(self).field_names[name])
            raise AttributeError(f"{type(self).__name__} has no option {name!r}; it has {', '.join(self.keys())}")

    def keys(self) -> list[str]:
        """The names in diffusers or transformers."""
        theirs = {ours: name for name, ours in self.field_names.items()}
        return [theirs.get(field.name, field.name) for field in fields(self)]  # pyright: ignore[reportArgumentType]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of that name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)
