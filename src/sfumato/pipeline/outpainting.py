"""A picture made larger at its sides: the new margins are painted as what is masked is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sfumato.errors import OptionError
from sfumato.pipeline.pictures import FILE, Pictures
from sfumato.pipeline.request import check_count

SIDES = ("left", "top", "right", "bottom")


def check_margins(given: Any) -> tuple[int, int, int, int]:
    """Margins in pixels at left, top, right and bottom. Raises OptionError unless these are four, and one is not 0."""
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(SIDES):
        raise OptionError(f"extend must be four numbers of pixels, for {', '.join(SIDES)}, not {given!r}")
    left, top, right, bottom = (
        check_count(f"extend at {side}", pixels, least=0, most=1 << 16)
        for side, pixels in zip(SIDES, given, strict=True)
    )
    if not any((left, top, right, bottom)):
        raise OptionError("extend is 0 at every side, so there is nothing to paint")
    return left, top, right, bottom


def extended(image: Pictures, margins: tuple[int, int, int, int]) -> tuple[Pictures, Pictures]:
    """The pictures with these margins, their edges drawn out into them, and a mask that is white there.

    Raises OptionError for latents, which have no edges to draw out.
    """
    if image.is_latent():
        raise OptionError("image must hold pixels here, not latents")
    left, top, right, bottom = margins
    larger: list[Image.Image] = []
    for one in image.as_images():
        padded = np.pad(np.asarray(one), ((top, bottom), (left, right), (0, 0)), mode="edge")
        larger.append(Image.fromarray(padded))
        larger[-1].info[FILE] = one.info.get(FILE, "")
    mask = Image.new("L", larger[0].size, 255)
    mask.paste(0, (left, top, mask.width - right, mask.height - bottom))
    return Pictures(images=tuple(larger)), Pictures(images=(mask,))
