"""The linear layer, computed by the faster of the libraries that PyTorch brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sfumato.models.int8 import Int8
from sfumato.models.kernels import linear

if TYPE_CHECKING:
    from jaxtyping import Float

    from sfumato.models.packing import Packed


class Linear(nn.Linear):
    """PyTorch's linear layer by `kernels.linear`, with packed weights, or in int8."""

    int8: Int8 | None = None
    packed: Packed | None = None

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:  # noqa: A002 - torch's name
        """Map the last dimension."""
        if self.int8 is not None:
            return self.int8.linear(self, input)
        if self.packed is not None and (answer := self.packed.linear(self, input)) is not None:
            return answer
        return linear(input, self.weight, self.bias)
