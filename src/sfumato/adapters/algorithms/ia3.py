"""(IA)³: channels of a layer made stronger or weaker."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sfumato.adapters.algorithms.change import Change


@dataclass(frozen=True, slots=True, eq=False)
class IA3(Change):
    """Each output channel, or each input channel, times a learned 1 + l. Source: Liu et al. 2022, arXiv:2205.05638, section 3.3.

    The paper's vector starts at one and ours, as LyCORIS keeps it, at zero: ours is the paper's less one. `on_bias` says whether the
    bias of an output channel is scaled with it, as in the paper; LyCORIS leaves it.
    """

    algorithm: ClassVar[str] = "(IA)³"

    vector: Tensor
    on_input: bool
    on_bias: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of the vector; which side of the weight it is for, `on_input` says."""
        return (self.vector.numel(),)

    def fits(self, shape: tuple[int, ...]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whether the vector has a number for each channel."""
        return len(shape) >= 2 and self.vector.numel() == shape[1 if self.on_input else 0]

    def weight_delta(self, weight: Tensor) -> Tensor:
        """l ⊙ W, along the rows or the columns."""
        channels = [1] * weight.ndim
        channels[1 if self.on_input else 0] = -1
        return self.vector.reshape(channels) * weight

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """l ⊙ b, where the bias is scaled too."""
        return self.vector.flatten() * bias if self.on_bias and bias is not None else None
