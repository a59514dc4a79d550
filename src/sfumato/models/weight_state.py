"""By what a layer's weights are known again, for what was made of them and is kept."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class WeightState:
    """Which tensor a layer's stored weights are, where they lie, and how often PyTorch has seen them written to."""

    tensor: weakref.ref[Tensor]
    version: int
    place: int

    @classmethod
    def of(cls, layer: nn.Module) -> WeightState:
        """The state of a layer's weights now."""
        stored = layer._parameters["weight"]
        assert stored is not None, "such layers have a weight"
        return cls(weakref.ref(stored), 0 if stored.is_inference() else stored._version, stored.data_ptr())

    def still(self, layer: nn.Module) -> bool:
        """Whether the layer's weights are as they were."""
        now = WeightState.of(layer)
        # Two references compare by what the tensors hold; it is which tensor that counts.
        return self.tensor() is now.tensor() and (self.version, self.place) == (now.version, now.place)
