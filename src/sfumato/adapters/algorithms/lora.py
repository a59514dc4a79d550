"""LoRA, and LoCon: the same for convolutions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.adapters.algorithms.change import Change, Layer
from sfumato.models.convolution import convolved


@dataclass(frozen=True, slots=True, eq=False)
class LoRA(Change):
    """A product of two thin matrices: through `down` into few dimensions, the rank, and through `up` out of them.

    Of a convolution, `down` has its kernel and `up` one of 1 × 1; with a `mid`, that has the kernel and both others 1 × 1 (a Tucker
    decomposition). `up_bias` is added to the output.
    Source: Hu et al. 2021, arXiv:2106.09685, Eq. 3; convolutions: Yeh et al. 2023, arXiv:2309.14859, section 3 and appendix B.
    """

    algorithm: ClassVar[str] = "LoRA"

    up: Tensor
    down: Tensor
    scale: float
    mid: Tensor | None = None
    up_bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight."""
        kernel = self.down.shape[2:] if self.mid is None else self.mid.shape[2:]
        return (self.up.shape[0], self.down.shape[1], *kernel)

    def weight_delta(self, weight: Tensor) -> Tensor:
        """ΔW = α/r · BA (Hu et al., Eq. 3 and section 4.1), B being `up` and A `down`."""
        up, down = self.up.flatten(1), self.down.flatten(1)
        # With a core M: ΔW[o, i, …] = Σ_pq B[o, p] M[p, q, …] A[q, i]
        delta = up @ down if self.mid is None else torch.einsum("op, pqhw, qi -> oihw", up, self.mid, down)
        return (delta * self.scale).reshape(weight.shape)

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """α/r times the bias of `up`, if it has one."""
        del bias
        return None if self.up_bias is None else self.up_bias * self.scale

    def side(self, layer: Layer, x: Tensor) -> Tensor:
        """α/r · B(Ax): two thin products instead of one thick."""
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, self.down.flatten(1)), self.up.flatten(1), self.up_bias) * self.scale
        if not isinstance(layer, nn.Conv2d):
            return Change.side(self, layer, x)
        rank = self.down.shape[0]
        if self.mid is None:
            y = convolved(layer, x, self.down.reshape(rank, *layer.weight.shape[1:]), None)
        else:
            y = F.conv2d(x, self.down.reshape(rank, -1, 1, 1))
            y = convolved(layer, y, self.mid, None)
        return F.conv2d(y, self.up.reshape(-1, rank, 1, 1), self.up_bias) * self.scale
