"""Words of the command line into values."""

import re

from sfumato.errors import OptionError, SizeError


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `512x768`. Raises SizeError."""
    pair = _pair(text)
    if pair is None:
        raise SizeError(f"the size is {text!r}; expected WIDTHxHEIGHT in pixels, such as 512x768")
    return pair


def parse_tile(text: str) -> int | tuple[int, int] | str:
    """`512`, `512x768` (width and height) or `model`, as a call takes them. Raises SizeError."""
    if text.strip().lower() == "model":
        return "model"
    side = re.fullmatch(r"\s*(\d{1,6})\s*", text, re.ASCII)
    tile = int(side[1]) if side else _pair(text)
    if tile is None:
        raise SizeError(f"the tile is {text!r}; expected pixels of a side, WIDTHxHEIGHT, or 'model'")
    return tile


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of `2x3`. Raises OptionError."""
    pair = _pair(text)
    if pair is None or 0 in pair:
        raise OptionError(f"the grid is {text!r}; expected ROWSxCOLUMNS, such as 2x3")
    return pair


def parse_margins(text: str) -> list[int]:
    """Pixels at left, top, right and bottom, of `0,64,0,64`. Raises OptionError."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text, re.ASCII)
    if match is None:
        raise OptionError(f"the margins are {text!r}; expected LEFT,TOP,RIGHT,BOTTOM in pixels, such as 0,64,0,64")
    return [int(pixels) for pixels in match.groups()]


def _pair(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*", text, re.IGNORECASE | re.ASCII)
    return (int(match[1]), int(match[2])) if match else None
