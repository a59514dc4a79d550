"""How the U-Net is told the timestep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float


def sinusoids(timesteps: Float[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Cosines, then sines, of the timesteps at `width / 2` frequencies from 1 down to 1/10,000, in float32.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, as Ho et al. 2020 use it for timesteps.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Timesteps → one vector each, activated and ready for the `time_proj` of every `ResnetBlock`."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, timesteps: Float[Tensor, " b"], dtype: torch.dtype) -> Float[Tensor, "b width"]:
        """Embed timesteps (0–999, fractions allowed); `dtype` is the one that the network computes in."""
        # Every resnet activates the embedding before it projects it: done here, once.
        return F.silu(self.linear2(F.silu(self.linear1(sinusoids(timesteps, self.channels).to(dtype)))))
