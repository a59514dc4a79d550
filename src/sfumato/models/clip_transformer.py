"""The transformer that CLIP's text encoder and image encoder are both made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.kernels import attention
from sfumato.models.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Activation = Literal["quick_gelu", "gelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class CLIPLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each on a normed copy, added back. Source: Radford et al. 2021, arXiv:2103.00020, section 2.4."""

    def __init__(
        self, *, width: int, heads: int, mlp_width: int, activation: Activation, causal: bool, eps: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.activation = ACTIVATIONS[activation]
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp_in = Linear(width, mlp_width)
        self.mlp_out = Linear(mlp_width, width)

    def forward(
        self, x: Float[Tensor, "b n c"], visible: Bool[Tensor, "b 1 n n"] | None = None
    ) -> Float[Tensor, "b n c"]:
        """Map x; in a causal layer each position sees itself and those before it, unless `visible` says which others each one sees."""
        y = self.norm1(x)
        q, k, v = (
            project(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v)
        )
        causal = self.causal and visible is None
        attended = attention(q, k, v, visible=visible, causal=causal)
        x = x + self.to_out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp_out(self.activation(self.mlp_in(self.norm2(x))))
