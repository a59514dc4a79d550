"""FreeU: what the way up of a U-Net reads from below and from beside, weighed anew, without training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.errors import OptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeU:
    """Factors for the two innermost levels of the way up: 1 is the innermost, 2 the next.

    s1, s2   of the low frequencies of what was kept on the way down; under 1 they count for less
    b1, b2   of the first half of the channels that come from below; above 1 they count for more

    A factor of 1 changes nothing, to the bit. Raises OptionError for a factor that is not above 0 and finite.
    Source: Si et al. 2023, arXiv:2309.11497, section 3, in the form of the authors' first release, which diffusers has.
    """

    s1: float
    s2: float
    b1: float
    b2: float

    def __post_init__(self) -> None:
        for name in ("s1", "s2", "b1", "b2"):
            factor = getattr(self, name)
            if not (math.isfinite(factor) and factor > 0):
                raise OptionError(f"FreeU's {name} is {factor}; give a number above 0 (1 changes nothing)")

    @property
    def is_neutral(self) -> bool:
        """Whether it changes nothing."""
        return (self.s1, self.s2, self.b1, self.b2) == (1.0, 1.0, 1.0, 1.0)

    def __call__(self, x: Tensor, kept: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """What a block of the way up reads at a level, counted from 0 at the innermost: `b c h w` from below and from beside, weighed."""
        if stage > 1:
            return x, kept
        b, s = (self.b1, self.s1) if stage == 0 else (self.b2, self.s2)
        half = x.shape[1] // 2
        x = x if b == 1 else torch.cat([x[:, :half] * b, x[:, half:]], dim=1)
        return x, kept if s == 1 else low_frequencies_scaled(kept, s)


def low_frequencies_scaled(x: Tensor, factor: float) -> Tensor:
    """Maps `b c h w` whose lowest frequencies are multiplied by a factor: 0 and -1 in both directions, of which the real part is kept."""
    lowest = torch.tensor([0, -1], device=x.device)
    factors = torch.ones(x.shape[-2:], device=x.device)
    factors[lowest[:, None], lowest] = factor
    spectrum = torch.fft.fft2(x.to(torch.float32)) * factors  # narrower types have no transform
    return torch.fft.ifft2(spectrum).real.to(x.dtype)
