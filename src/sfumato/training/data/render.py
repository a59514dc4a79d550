"""Drawings to pixels with their transparency: SVG through resvg, WebP through Pillow."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from sfumato.errors import DataError
from sfumato.training.data.drawings import Drawing

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rendered this many times larger and reduced by area: edges come out as even in SVG art as in the 256-pixel WebP art.
_OVERSAMPLING = 4
_LARGEST_RENDER = 512
# What the resampling filter leaves beside an edge, too faint to see, would be measured as part of the thing.
_FAINTEST_ALPHA = 4


def _svg_image(body: bytes, side: int) -> Image.Image:
    try:
        import resvg_py  # only building data needs it
    except ImportError as error:
        raise DataError("rendering SVG art needs resvg-py; install the extra: pip install 'sfumato[train]'.") from error
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=body.decode(), width=side, height=side, dpi=96, skip_system_fonts=True, background=None
        )
    except ValueError as error:
        raise DataError(f"an SVG drawing can't be rendered: {error}.") from error
    return Image.open(io.BytesIO(bytes(png)))


def render(drawing: Drawing, size: int, *, margin: float = 0.0) -> "NDArray[np.uint8]":
    """The drawing on a transparent ground, `size size 4` in 0–255, straight alpha; `margin` is the share of each side left free around it.

    Raises DataError when the drawing can't be read.
    """
    inner = round(size * (1 - 2 * margin))
    try:
        art = (
            _svg_image(drawing.body, max(inner, min(inner * _OVERSAMPLING, _LARGEST_RENDER)))
            if drawing.format == "svg"
            else Image.open(io.BytesIO(drawing.body))
        )
        art = art.convert("RGBA")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"the drawing {drawing.code} can't be read: {error}.") from error
    # Reduced with the colours multiplied by alpha ("RGBa"): transparent pixels have a colour too, and it must not bleed into the edge.
    small = art.convert("RGBa").resize((inner, inner), Image.Resampling.LANCZOS).convert("RGBA")
    page = np.zeros((size, size, 4), np.uint8)
    offset = (size - inner) // 2
    page[offset : offset + inner, offset : offset + inner] = np.asarray(small)
    page[page[..., 3] < _FAINTEST_ALPHA] = 0
    return page
