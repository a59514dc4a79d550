"""Contact sheets: many small pictures on one page, to be looked at."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from sfumato.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_sheet(
    path: Path,
    pictures: Sequence["NDArray[np.uint8]"],
    labels: Sequence[str] | None = None,
    *,
    columns: int = 16,
    zoom: int = 1,
    side: int | None = None,
) -> None:
    """Write pictures (`h w 3`, uint8, all of one size), row by row, as a PNG; `labels` are set small under each.

    Each is shown `zoom` times larger, or with `side` reduced to that many pixels where it is wider.

    Raises OutputError when it can't be written.
    """
    if not pictures:
        return
    height, width = pictures[0].shape[0] * zoom, pictures[0].shape[1] * zoom
    resampling = Image.Resampling.NEAREST
    if side is not None and width > side:
        height, width, resampling = round(height * side / width), side, Image.Resampling.LANCZOS
    strip = 12 if labels else 0
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + 2), rows * (height + strip + 2)), "lightgray")
    draw = ImageDraw.Draw(page)
    for i, picture in enumerate(pictures):
        x, y = i % columns * (width + 2), i // columns * (height + strip + 2)
        page.paste(Image.fromarray(picture).resize((width, height), resampling), (x, y))
        if labels:
            draw.text((x + 1, y + height), labels[i][: max(1, width // 6)], fill="black")
    png = io.BytesIO()
    page.save(png, "PNG")
    write_whole(path, png.getvalue(), overwrite=True)
