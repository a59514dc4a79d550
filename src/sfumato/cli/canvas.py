"""What a command says of the canvas: tiles, seams, and a picture drawn over larger."""

from collections.abc import Mapping
from typing import Any

from sfumato.cli.parsing import parse_tile
from sfumato.errors import OptionError


def canvas_options(
    pictures: Mapping[str, Any],
    *,
    upscale: float | None,
    size: str | None,
    tile: str | None,
    tile_overlap: int | None,
    seamless: str | None,
) -> dict[str, Any]:
    """The options of a call for its canvas, beside those for its `pictures`; where one is drawn over larger, its size and strength as well.

    Raises OptionError for a tile that is no size, and for an enlargement without an image or with another size.
    """
    options: dict[str, Any] = {
        "tile": None if tile is None else parse_tile(tile),
        "tile_overlap": tile_overlap,
        "seamless": seamless,
    }
    options = {name: value for name, value in options.items() if value is not None}
    return options if upscale is None else {**_larger(pictures, upscale, size), **options}


def _larger(pictures: Mapping[str, Any], scale: float, size: str | None) -> dict[str, Any]:
    """What `tiled_upscale` adds to the options of a call."""
    if "image" not in pictures:
        raise OptionError("--upscale needs --image FILE, which is not given")
    others = {"--size": size, "--mask": pictures.get("mask_image"), "--extend": pictures.get("extend")}
    if contradicting := [name for name, value in others.items() if value is not None]:
        raise OptionError(f"--upscale draws all of the image at {scale:g} times its size; leave out {contradicting[0]}")
    from sfumato.pipeline.tiled_upscaling import STRENGTH, check_scale, enlarged_size

    width, height = enlarged_size(pictures["image"].size, check_scale(scale))
    return {"width": width, "height": height, "tile": "model", "strength": pictures.get("strength", STRENGTH)}
