"""The whole text as one vector beside the timestep: what a picture shows, told to every layer and not only to those that attend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sfumato.models.kernels import attention
from sfumato.models.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float


class TextEmbedding(nn.Module):
    """A text's context, pooled by attention → what it adds to the time embedding.

    One query, the mean of the tokens with a learned position, attends to itself and to all tokens. It begins as one that adds nothing.
    Source: the attention pooling of CLIP's ResNets (Radford et al. 2021, arXiv:2103.00020, section 2.4), as DeepFloyd IF uses it
    (`addition_embed_type: text` in diffusers' configs).
    """

    def __init__(self, context_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in = nn.LayerNorm(context_width)
        self.position = nn.Parameter(torch.empty(1, context_width))
        nn.init.normal_(self.position, std=context_width**-0.5)
        self.to_q = Linear(context_width, context_width)
        self.to_k = Linear(context_width, context_width)
        self.to_v = Linear(context_width, context_width)
        self.proj = Linear(context_width, width)
        self.norm_out = nn.LayerNorm(width)
        nn.init.zeros_(self.norm_out.weight)

    def forward(self, context: Float[Tensor, "b n k"]) -> Float[Tensor, "b width"]:
        """Embed texts."""
        tokens = self.norm_in(context)
        query = tokens.mean(dim=1, keepdim=True) + self.position
        tokens = torch.cat([query, tokens], dim=1)
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.to_q, query), (self.to_k, tokens), (self.to_v, tokens))
        )
        pooled = attention(q, k, v).transpose(1, 2).flatten(1)
        return self.norm_out(self.proj(pooled))
