"""Variations of art that the autoencoder should bear: mirrored, shifted, recoloured."""

import torch
from torch import Tensor
from torch.nn import functional as F

_SHIFT = 4


def augment(pixels: Tensor, generator: torch.Generator, *, colours: bool) -> Tensor:
    """Pixels (`b 3 h w` in [-1, 1]) mirrored at random and, with `colours`, shifted on white by up to 4 and their channels permuted.

    White stays white: a permutation of the channels turns hues without touching greys.
    """
    if not len(pixels):
        return pixels
    b, _, height, width = pixels.shape
    mirrored = torch.rand(b, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    if not colours:
        return pixels
    shifts = torch.randint(2 * _SHIFT + 1, (b, 2), generator=generator)
    orders = torch.stack([torch.randperm(3, generator=generator) for _ in range(b)])
    padded = F.pad(pixels, (_SHIFT,) * 4, value=1.0)
    return torch.stack(
        [
            padded[i, order][:, y : y + height, x : x + width]
            for i, (order, (y, x)) in enumerate(zip(orders, shifts.tolist(), strict=True))
        ]
    )
