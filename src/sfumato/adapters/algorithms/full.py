"""The whole difference, as it is: of a weight, a bias, or a norm's scale and shift."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sfumato.adapters.algorithms.change import Change


@dataclass(frozen=True, slots=True, eq=False)
class Full(Change):
    """ΔW and Δb themselves, either of which may be missing. What fine-tuning gives: W' = W + ΔW."""

    algorithm: ClassVar[str] = "full"

    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight, or of its bias if only that is changed."""
        tensor = self.bias if self.weight is None else self.weight
        assert tensor is not None
        return tuple(tensor.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whether both are of the layer's sizes."""
        of_bias = self.bias is None or self.bias.numel() == shape[0]
        return of_bias and (self.weight is None or Change.fits(self, shape))

    def weight_delta(self, weight: Tensor) -> Tensor | None:
        """ΔW."""
        return None if self.weight is None else self.weight.reshape(weight.shape)

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """Δb."""
        del bias
        return None if self.bias is None else self.bias.flatten()
