"""A picture brought to the size that is drawn."""

from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

ResizeMode: TypeAlias = Literal["resize", "crop", "fill"]
"""What becomes of a picture of other proportions: stretched; cut at two sides; or whole, its edges drawn out at two sides."""

RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)


def resized(
    image: Image.Image,
    width: int,
    height: int,
    mode: ResizeMode = "resize",
    by: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The picture in that size, sampled by Lanczos's filter or another; as it is where it has the size already."""
    if image.size == (width, height):
        return image
    if mode == "resize":
        return image.resize((width, height), by)
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
