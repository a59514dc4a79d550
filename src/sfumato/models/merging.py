"""Token merging: positions of a map that are alike pass through self-attention as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

MOST = 0.75
"""Three positions of every four can be merged into the fourth."""

Back: TypeAlias = Callable[[Tensor], Tensor]
"""From one row a merged position to one row a position, `b n c`."""


@dataclass(frozen=True, slots=True, eq=False)
class Merging:
    """Self-attentions before which a `share` of the positions, 0 to 0.75, is merged into others that are most like them.

    `attentions` are of one network. Source: Bolya & Hoffman 2023, arXiv:2303.17604, after Bolya et al. 2022, arXiv:2210.09461 (the matching).
    """

    attentions: frozenset[nn.Module]
    share: float

    def __call__(self, x: Float[Tensor, "b n c"], size: torch.Size) -> tuple[Tensor, Back]:
        """The positions of a map of that size, height by width, with some merged; and the way back.

        Of every 2 × 2 positions one stays, at a place that is drawn once for a size; of the others, those most like one that stays are
        merged into it: their mean stands for them. On the way back, each of them gets what came of that. It takes memory for how alike they
        are: 3/16 n² numbers a row.
        """
        stays, others = partition(*size)
        count = min(int(x.shape[1] * self.share), len(others))
        if count == 0:
            return x, lambda merged: merged
        stays, others = stays.to(x.device), others.to(x.device)
        unit = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        likeness, nearest = (unit[:, others] @ unit[:, stays].transpose(1, 2)).max(dim=-1)
        order = likeness.argsort(dim=-1, descending=True, stable=True)
        gone, alone = order[:, :count], order[:, count:]  # of `others`
        into = nearest.gather(1, gone)  # of `stays`

        # A product with 0 and 1 adds them up in one order; scattered additions come in any on a GPU.
        joins = torch.zeros(len(x), len(stays), count, dtype=x.dtype, device=x.device).scatter_(1, into[:, None], 1)
        total = x[:, stays] + joins @ _taken(x[:, others], gone)
        mean = total / (1 + joins.sum(dim=-1, keepdim=True))
        kept = alone.shape[1]

        def back(merged: Tensor) -> Tensor:
            separate, together = merged[:, :kept], merged[:, kept:]
            whole = torch.empty_like(x)
            whole[:, stays] = together
            rest = torch.empty_like(x[:, others])
            rest.scatter_(1, _wide(alone, x), separate)
            rest.scatter_(1, _wide(gone, x), _taken(together, into))
            whole[:, others] = rest
            return whole

        return torch.cat([_taken(x[:, others], alone), mean], dim=1), back


@lru_cache(maxsize=32)
def partition(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Indices of the positions that stay, one of every 2 × 2, and of the others; those of a last odd row or column are others.

    Which of the four stays is drawn at random, as the paper does, but from one seed: a map is parted in the same way in every evaluation.
    """
    down, across = height // 2, width // 2
    drawn = torch.randint(4, (down, across), generator=torch.Generator().manual_seed(0), device="cpu")
    rows = 2 * torch.arange(down, device="cpu")[:, None] + drawn // 2
    columns = 2 * torch.arange(across, device="cpu") + drawn % 2
    stays = torch.zeros(height * width, dtype=torch.bool, device="cpu")
    stays[rows * width + columns] = True
    return stays.nonzero()[:, 0], (~stays).nonzero()[:, 0]


def _wide(indices: Tensor, x: Tensor) -> Tensor:
    return indices[:, :, None].expand(-1, -1, x.shape[-1])


def _taken(x: Tensor, indices: Tensor) -> Tensor:
    """Each row's positions of `b n c` at its indices, `b m`."""
    return x.gather(1, _wide(indices, x))
