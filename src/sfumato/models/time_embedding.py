"""How the U-Net is told the timestep, and whatever else it is told in numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.linear import Linear

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
        self.linear1 = Linear(channels, width)
        self.linear2 = Linear(width, width)

    def forward(
        self,
        timesteps: Float[Tensor, " b"],
        dtype: torch.dtype,
        *,
        before: Float[Tensor, "b channels"] | None = None,
        after: Float[Tensor, "b width"] | None = None,
    ) -> Float[Tensor, "b width"]:
        """Embed timesteps (0–999, fractions allowed); `dtype` is the one that the network computes in.

        What else a network is told in numbers is added `before` the layers (a guidance scale) or `after` them (sizes, a noise level).
        """
        x = sinusoids(timesteps, self.channels).to(dtype)
        x = x if before is None else x + before
        x = self.linear2(F.silu(self.linear1(x)))
        # Every resnet activates the embedding before it projects it: done here, once.
        return F.silu(x if after is None else x + after)


class SizeEmbedding(nn.Module):
    """A pooled text and some numbers → what they add to the time embedding.

    Source: Podell et al. 2023 (SDXL), arXiv:2307.01952, section 2.2: each number becomes sinusoids of its own.
    """

    def __init__(self, in_width: int, number_width: int, width: int) -> None:
        super().__init__()
        self.number_width = number_width
        self.linear1 = Linear(in_width, width)
        self.linear2 = Linear(width, width)

    def forward(self, pooled: Float[Tensor, "b p"], numbers: Float[Tensor, "b n"]) -> Float[Tensor, "b width"]:
        """Embed a pooled text with its numbers: p + n · `number_width` is the layer's width."""
        told = sinusoids(numbers.flatten(), self.number_width).unflatten(0, numbers.shape).flatten(1)
        return self.linear2(F.silu(self.linear1(torch.cat([pooled, told.to(pooled.dtype)], dim=-1))))


def guidance_sinusoids(scales: Float[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Sines, then cosines, of 1000 · (scale - 1), in float32: how a network that was distilled with guidance is told its scale.

    Source: Luo et al. 2023 (LCM), arXiv:2310.04378, section 4.3, in their code, after Meng et al. 2023, arXiv:2210.03142.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=scales.device) / (half - 1)
    angles = 1000 * (scales.float()[:, None] - 1) * torch.exp(-math.log(10_000) * exponents)
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, width % 2))
