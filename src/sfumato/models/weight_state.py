"""By what a layer's weights are known again, for what was made of them and is kept."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class WeightState:
    """Which tensors a layer's stored weights and bias are, where they lie, and how often PyTorch has seen them written to."""

    tensors: tuple[weakref.ref[Tensor], ...]
    written: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, layer: nn.Module) -> WeightState:
        """The state of a layer's weights and bias now."""
        stored = [each for each in layer._parameters.values() if each is not None]
        return cls(tuple(map(weakref.ref, stored)), tuple(map(_written, stored)))

    def still(self, layer: nn.Module) -> bool:
        """Whether the layer's weights and bias are as they were."""
        now = [each for each in layer._parameters.values() if each is not None]
        # Two references compare by what the tensors hold; it is which tensor that counts.
        return (
            len(now) == len(self.tensors)
            and all(ref() is each for ref, each in zip(self.tensors, now, strict=True))
            and self.written == tuple(map(_written, now))
        )


def _written(stored: Tensor) -> tuple[int, int]:
    return times_written(stored), stored.data_ptr()


def times_written(stored: Tensor) -> int:
    """How often a tensor was written in place, as PyTorch counts; always 0 for one that was made in inference mode, which it doesn't count."""
    return 0 if stored.is_inference() else stored._version


def counting(*networks: nn.Module) -> AbstractContextManager[object]:
    """A context in which new weights of these networks count how often they are written, as the old ones did.

    It is outside inference mode, but where the old ones were made in that mode and can be written in it alone.
    """
    made_in_it = torch.is_inference_mode_enabled() and any(
        weight.is_inference() for network in networks for weight in network.parameters()
    )
    return torch.inference_mode(mode=made_in_it)
