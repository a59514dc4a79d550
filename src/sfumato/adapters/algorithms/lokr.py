"""LoKr: a Kronecker product."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.adapters.algorithms.change import Change
from sfumato.adapters.algorithms.loha import factor


@dataclass(frozen=True, slots=True, eq=False)
class LoKr(Change):
    """ΔW = α/r · C ⊗ D. Source: Yeh et al. 2023, arXiv:2309.14859, section 3.2; after Edalati et al. 2022, arXiv:2212.10650.

    C is `w1` (`a c`), or the product `w1_a w1_b` in its place; D is `w2` (`b d`, with a kernel `b d h w`), or `w2_a w2_b`, with a
    core `t2` a Tucker product. The layer's weight is then `ab cd`.
    """

    algorithm: ClassVar[str] = "LoKr"

    scale: float
    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight; a kernel may be folded into the second dimension."""
        c, d = self._factors("meta")
        return (c.shape[0] * d.shape[0], c.shape[1] * d.shape[1], *d.shape[2:])

    def weight_delta(self, weight: Tensor) -> Tensor:
        """α/r · C ⊗ D. A kernel is folded into the columns of D, which are the inner ones: unfolded again it is D's alone."""
        c, d = self._factors()
        return (torch.kron(c, d.flatten(1)) * self.scale).reshape(weight.shape)

    def _factors(self, device: str | None = None) -> tuple[Tensor, Tensor]:
        """C and D; on the meta device, their shapes alone."""
        return whole(self.w1, self.w1_a, self.w1_b, None, device), whole(self.w2, self.w2_a, self.w2_b, self.t2, device)


def whole(
    product: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None, device: str | None
) -> Tensor:
    """A factor, or the product of its own two."""
    if product is not None:
        return product if device is None else product.to(device)
    assert a is not None, "each factor is there whole or as two"
    assert b is not None, "each factor is there whole or as two"
    if device is not None:
        a, b, core = a.to(device), b.to(device), None if core is None else core.to(device)
    return factor(a, b, core)
