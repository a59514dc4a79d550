"""A picture brought to the size that is drawn."""

import math
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.models.convolution import NOWHERE, Axes

ResizeMode: TypeAlias = Literal["resize", "crop", "fill", "latent"]
"""What becomes of a picture of other proportions: stretched; cut at two sides; or whole, its edges drawn out at two sides. "latent" stretches
its latents, and not its pixels, where there are some."""

RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)


REACH = 3
"""How far Lanczos's filter sees, in pixels of the smaller picture."""


def resized(
    image: Image.Image,
    width: int,
    height: int,
    mode: ResizeMode = "resize",
    by: Image.Resampling = Image.Resampling.LANCZOS,
    axes: Axes = NOWHERE,
) -> Image.Image:
    """The picture, which, where it is stretched, wraps along `axes`, in that size; as it is where it has it already.

    It is sampled by Lanczos's filter, or another that sees no farther.
    """
    if image.size == (width, height):
        return image
    if mode in ("resize", "latent"):
        across, down = (
            REACH * math.ceil(max(old / new, 1)) if dim in axes else 0
            for dim, old, new in ((-1, image.width, width), (-2, image.height, height))
        )
        margins = [(down, down), (across, across)]
        pixels = np.asarray(image)
        around = Image.fromarray(np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), mode="wrap")) if axes else image
        # The filter sees what lies around the box.
        box = (across, down, across + image.width, down + image.height)
        return around.resize((width, height), by, box=box)
    is_wider = image.width * height > width * image.height
    by_height = is_wider if mode == "crop" else not is_wider
    across = image.width * height // image.height if by_height else width
    down = height if by_height else image.height * width // image.width
    scaled = image.resize((max(across, 1), max(down, 1)), by)
    left, top = width // 2 - scaled.width // 2, height // 2 - scaled.height // 2
    if mode == "crop":
        return scaled.crop((-left, -top, width - left, height - top))
    margins = [(top, height - top - scaled.height), (left, width - left - scaled.width)]
    pixels = np.asarray(scaled)
    return Image.fromarray(np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def stretched(latents: Tensor, width: int, height: int, axes: Axes = NOWHERE) -> Tensor:
    """Latents `n c h w`, which wrap along `axes`, in another size: between them is interpolated."""
    beside = {dim: 3 if dim in axes else 1 for dim in (-2, -1)}
    around = torch.cat([torch.cat([latents] * beside[-2], dim=-2)] * beside[-1], dim=-1)
    larger = F.interpolate(around, size=(height * beside[-2], width * beside[-1]), mode="bilinear")
    top, left = (side if beside[dim] == 3 else 0 for dim, side in ((-2, height), (-1, width)))
    return larger[..., top : top + height, left : left + width]
