"""Drawings to pixels: SVG through resvg, WebP through Pillow, both over a white ground."""

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
    """The drawing on white, `size size 3` in 0–255; `margin` is the share of each side left white around it.

    Raises DataError when the drawing can't be read.
    """
    inner = round(size * (1 - 2 * margin))
    try:
        art = (
            _svg_image(drawing.body, inner * _OVERSAMPLING)
            if drawing.format == "svg"
            else Image.open(io.BytesIO(drawing.body))
        )
        art = art.convert("RGBA")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"the drawing {drawing.code} can't be read: {error}.") from error
    ground = Image.new("RGBA", art.size, "white")
    ground.alpha_composite(art)
    page = Image.new("RGB", (size, size), "white")
    offset = (size - inner) // 2
    page.paste(ground.convert("RGB").resize((inner, inner), Image.Resampling.LANCZOS), (offset, offset))
    return np.asarray(page)
