"""LoHa: the elementwise product of two low-rank matrices."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.adapters.algorithms.change import Change


@dataclass(frozen=True, slots=True, eq=False)
class LoHa(Change):
    """ΔW = α/r · (B₁A₁) ⊙ (B₂A₂), of rank up to r². Source: Hyeon-Woo et al. 2021, arXiv:2108.06098, Eq. 1 (FedPara).

    `w1_a`, `w2_a` are B₁, B₂ (`out r`), `w1_b`, `w2_b` are A₁, A₂ (`r in`, a kernel folded into `in`). With cores `t1` and `t2`
    (`r r h w`) each factor is a Tucker product, and the `a` are `r out`. Source of those: the same, Eq. 4 (proposition 3).
    """

    algorithm: ClassVar[str] = "LoHa"

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    scale: float
    t1: Tensor | None = None
    t2: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight, its kernel folded into the second dimension unless there are cores."""
        if self.t1 is None:
            return (self.w1_a.shape[0], self.w1_b.shape[1])
        return (self.w1_a.shape[1], self.w1_b.shape[1], *self.t1.shape[2:])

    def weight_delta(self, weight: Tensor) -> Tensor:
        """α/r · (B₁A₁) ⊙ (B₂A₂)."""
        first, second = factor(self.w1_a, self.w1_b, self.t1), factor(self.w2_a, self.w2_b, self.t2)
        return (first * second * self.scale).reshape(weight.shape)


def factor(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """One low-rank factor: `a b`, or with a core T, W[o, i, …] = Σ_pq T[p, q, …] a[p, o] b[q, i]."""
    return a @ b.flatten(1) if core is None else torch.einsum("pqhw, po, qi -> oihw", core, a, b)
