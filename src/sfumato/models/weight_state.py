"""By what a layer's weights are known again, for what was made of them and is kept."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

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
    return 0 if stored.is_inference() else stored._version, stored.data_ptr()
