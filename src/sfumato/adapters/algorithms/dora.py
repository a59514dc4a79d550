"""DoRA: direction and magnitude of a weight changed apart."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.adapters.algorithms.change import Change


@dataclass(frozen=True, slots=True, eq=False)
class DoRA(Change):
    """W' = m ⊙ (W + ΔW) / ‖W + ΔW‖, with the ΔW of another algorithm. Source: Liu et al. 2024, arXiv:2402.09353, Eq. 5.

    The magnitudes `m` and the norms are one for each output channel (`out 1`, …), or one for each input channel (`1 in`, …) as
    LyCORIS once had them. Beside other adapters, W is the layer's own weight; at weight w, w · (W' - W) is added.
    """

    algorithm: ClassVar[str] = "DoRA"

    direction: Change
    magnitude: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight."""
        return self.direction.shape

    def fits(self, shape: tuple[int, ...]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whether there is a magnitude for each channel, and the direction fits."""
        sides = tuple(self.magnitude.shape[:2])
        return (
            self.direction.fits(shape)
            and sides in ((shape[0], 1), (1, shape[1]))
            and self.magnitude.numel() == max(sides)
        )

    def weight_delta(self, weight: Tensor) -> Tensor:
        """m ⊙ V / ‖V‖ - W, with V = W + ΔW."""
        delta = self.direction.weight_delta(weight)
        assert delta is not None, "a direction changes the weight"
        v = weight + delta
        kept = 0 if self.magnitude.shape[0] == v.shape[0] and self.magnitude.shape[1] == 1 else 1
        others = [dimension for dimension in range(v.ndim) if dimension != kept]
        # Sums of squares overflow float16.
        norms = torch.linalg.vector_norm(v, dim=others, keepdim=True, dtype=torch.float32)
        magnitude = self.magnitude.reshape([-1 if dimension == kept else 1 for dimension in range(v.ndim)])
        return v * (magnitude / norms.clamp_min(torch.finfo(v.dtype).tiny)).to(v.dtype) - weight

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """The direction's, if it has one."""
        return self.direction.bias_delta(bias)
