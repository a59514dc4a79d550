"""Colours by the names people use: naming pixels, recolouring art by hue, and measuring what a picture shows.

One set of rules makes the captions of recoloured art and judges the pictures drawn from them. Colours are measured in OKLCh (lightness
0–1, chroma, hue in degrees), where equal steps look alike. Source: Ottosson 2020, "A perceptual color space for image processing".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What an object can be recoloured to, in the order in which scenes draw them.
OBJECT_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
NEUTRALS = ("black", "gray", "white")
NAMES = (*OBJECT_COLOURS, "teal", "brown", *NEUTRALS)

# Typical (lightness, chroma, hue) of each name: what recolouring aims at and grounds are painted with.
TYPICAL: dict[str, tuple[float, float, float]] = {
    "red": (0.59, 0.22, 27.0),
    "orange": (0.73, 0.17, 56.0),
    "yellow": (0.88, 0.17, 95.0),
    "green": (0.68, 0.19, 143.0),
    "teal": (0.71, 0.12, 193.0),
    "blue": (0.60, 0.18, 256.0),
    "purple": (0.54, 0.20, 303.0),
    "pink": (0.76, 0.15, 357.0),
    "brown": (0.46, 0.09, 57.0),
    "black": (0.16, 0.0, 0.0),
    "gray": (0.66, 0.0, 0.0),
    "white": (1.0, 0.0, 0.0),
}

# Where one hue's name ends and the next begins, in degrees: below 16 is pink, from 342 on pink again.
_HUES = ((16.0, "pink"), (42.0, "red"), (72.0, "orange"), (118.0, "yellow"), (168.0, "green"), (215.0, "teal"))
_LATE_HUES = ((285.0, "blue"), (338.0, "purple"), (360.0, "pink"))
_LEAST_CHROMA = 0.045  # below it a pixel has no hue that people would name
_BLACK, _WHITE = 0.34, 0.90  # lightness under and over which a pixel without hue is called so
_HUE_REACH = 55.0  # pixels within these degrees of the chief hue turn with it
_LEAST_SHARE = 0.5  # of an object's coloured pixels, for the object to be called by the colour
_LEAST_COLOURED = 0.2  # of an object's pixels, for it to have a colour at all
_OFF_GROUND = 0.07  # distance in OKLab from the ground's colour at which an object begins

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)
_FROM_LAB, _FROM_LMS = np.linalg.inv(_TO_LAB), np.linalg.inv(_TO_LMS)
_LINEAR = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255])


def oklab(rgb: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """sRGB 0–255 (`... 3`) as OKLab (`... 3`: lightness 0–1, a, b)."""
    return np.cbrt(_LINEAR.astype(np.float32)[rgb] @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(lab: "NDArray[np.floating]") -> "NDArray[np.uint8]":
    """OKLab (`... 3`) as sRGB 0–255, what lies outside sRGB clipped."""
    linear = np.clip(((lab @ _FROM_LAB.T) ** 3) @ _FROM_LMS.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def paint(lightness: float, chroma: float, hue: float) -> tuple[int, int, int]:
    """The sRGB colour nearest to an OKLCh colour."""
    angle = np.deg2rad(hue)
    red, green, blue = from_oklab(np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])).tolist()
    return red, green, blue


def _lch(lab: "NDArray[np.floating]") -> tuple["NDArray[np.floating]", "NDArray[np.floating]", "NDArray[np.floating]"]:
    return lab[..., 0], np.hypot(lab[..., 1], lab[..., 2]), np.rad2deg(np.arctan2(lab[..., 2], lab[..., 1])) % 360


def name_pixels(rgb: "NDArray[np.uint8]") -> "NDArray[np.int64]":
    """What each sRGB pixel (`... 3`) is called, as an index into `NAMES`."""
    lightness, chroma, hue = _lch(oklab(rgb))
    edges = [edge for edge, _ in (*_HUES, *_LATE_HUES)]
    by_hue = np.array([NAMES.index(name) for _, name in (*_HUES, *_LATE_HUES)])
    names = by_hue[np.minimum(np.searchsorted(edges, hue, side="right"), len(edges) - 1)]
    red, orange, yellow, purple, pink, brown, black, gray, white = (
        NAMES.index(n) for n in ("red", "orange", "yellow", "purple", "pink", "brown", "black", "gray", "white")
    )
    # Dark orange is brown, light red is pink, and so is light magenta.
    names = np.where((names == orange) & (lightness < 0.62), brown, names)
    names = np.where((names == red) & (hue > 33) & (lightness < 0.66) & (chroma < 0.125), brown, names)
    names = np.where((names == yellow) & (lightness < 0.60), brown, names)
    names = np.where((names == red) & (lightness > 0.73), pink, names)
    names = np.where((names == purple) & (hue > 318) & (lightness > 0.66), pink, names)
    neutral = (chroma < _LEAST_CHROMA) | (lightness < 0.22) | ((lightness > 0.96) & (chroma < 0.06))
    shade = np.where(lightness < _BLACK, black, np.where(lightness > _WHITE, white, gray))
    return np.where(neutral, shade, names)


def chief_colour(rgb: "NDArray[np.uint8]") -> str | None:
    """What an object's pixels (`n 3`) make people call it; None where no colour leads.

    A colour leads with half of the coloured pixels; black, gray or white with half of all, where few are coloured.
    """
    if not len(rgb):
        return None
    counts = np.bincount(name_pixels(rgb), minlength=len(NAMES))
    coloured = counts.copy()
    coloured[[NAMES.index(name) for name in NEUTRALS]] = 0
    is_coloured = coloured.sum() >= _LEAST_COLOURED * len(rgb)
    among = coloured if is_coloured else counts
    best = int(among.argmax())
    return NAMES[best] if among[best] >= _LEAST_SHARE * among.sum() else None


def dominant_colour(rgba: "NDArray[np.uint8]") -> str | None:
    """What the art of an RGBA drawing (`h w 4`) is called for its colour; None where no colour leads."""
    return chief_colour(rgba[rgba[..., 3] > 127][:, :3])


def background_of(rgb: "NDArray[np.uint8]") -> str:
    """The name of the ground of a picture (`h w 3`): that of most pixels along its border."""
    return NAMES[int(np.bincount(name_pixels(_border(rgb))).argmax())]


def object_of(rgb: "NDArray[np.uint8]") -> "NDArray[np.bool_]":
    """Where a picture (`h w 3`) differs from its ground (`h w`)."""
    ground = np.median(oklab(_border(rgb)), axis=0)
    return np.linalg.norm(oklab(rgb) - ground, axis=-1) > _OFF_GROUND


def object_colour(rgb: "NDArray[np.uint8]") -> str | None:
    """What the thing on a picture's plain ground (`h w 3`) is called for its colour; None where no colour leads."""
    return chief_colour(rgb[object_of(rgb)])


def _border(rgb: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    return np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])


@dataclass(frozen=True, slots=True)
class _Turn:
    """Which pixels recolouring moves, and where they are now."""

    moved: "NDArray[np.bool_]"
    hue: float | None  # None: the object has no hue yet


def _turn_of(lightness: "NDArray", chroma: "NDArray", hue: "NDArray", visible: "NDArray[np.bool_]") -> _Turn | None:
    coloured = visible & (chroma > _LEAST_CHROMA) & (lightness > 0.2)
    if coloured.sum() >= _LEAST_COLOURED * max(1, visible.sum()):
        # The peak of the hues, each weighted by its chroma, over a circle of 10-degree bins smoothed by their neighbours.
        bins = np.bincount((hue[coloured] // 10).astype(int) % 36, weights=chroma[coloured], minlength=36)
        peak = 10.0 * float((bins + np.roll(bins, 1) + np.roll(bins, -1)).argmax()) + 5.0
        return _Turn(coloured & (np.abs((hue - peak + 180) % 360 - 180) < _HUE_REACH), peak)
    pale = visible & (lightness > 0.35)
    return _Turn(pale, None) if pale.sum() >= 0.5 * visible.sum() > 0 else None


def recolour(rgba: "NDArray[np.uint8]", colour: str) -> "NDArray[np.uint8] | None":
    """The drawing (`h w 4`) with its chief hue turned to `colour`, its other hues left; a drawing without hue is tinted.

    Shading stays: lightness and chroma move as a whole. None where the result would not be called by that colour.
    """
    seen = rgba[..., 3] > 0  # half of a drawing is nothing: its pixels are left out of the arithmetic
    rgb, alpha = rgba[seen][:, :3], rgba[seen][:, 3]
    lightness, chroma, hue = _lch(oklab(rgb))
    turn = _turn_of(lightness, chroma, hue, alpha > 127)
    if turn is None:
        return None
    to_lightness, to_chroma, to_hue = TYPICAL[colour]
    # Half-transparent pixels of an edge move with the pixels they border on.
    moved = turn.moved | (alpha <= 127)
    middle = lightness[turn.moved].mean()
    new_lightness = to_lightness + 0.85 * (lightness - middle)
    if turn.hue is None:
        new_chroma, off = np.full_like(chroma, 0.8 * to_chroma), 0.0
    else:
        new_chroma = np.minimum(chroma * (to_chroma / chroma[turn.moved].mean()), 1.3 * to_chroma)
        off = 0.25 * ((hue - turn.hue + 180) % 360 - 180)
    angle = np.deg2rad(to_hue + off)
    turned = np.stack([new_lightness, new_chroma * np.cos(angle), new_chroma * np.sin(angle)], axis=-1)
    out = rgba.copy()
    out[seen, :3] = np.where(moved[:, None], from_oklab(turned), rgb)
    return out if dominant_colour(out) == colour else None
