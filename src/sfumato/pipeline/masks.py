"""Masks: where a picture is painted anew, white for yes; and the picture laid back around what was painted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import OptionError
from sfumato.pipeline.decoding import to_bytes
from sfumato.pipeline.pictures import Box, to_pixels
from sfumato.pipeline.resizing import resized

# Blurs by which the surroundings are spread over a hole, the widest first, in pixels.
SPREADS = (256, 64, 16, 8, 4, 2, 1)


def blurred(mask: Image.Image, radius: float) -> Image.Image:
    """The mask with soft edges, by a Gaussian blur of that radius in pixels."""
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius > 0 else mask


def region_of(mask: Image.Image, width: int, height: int, padding: int) -> Box:
    """The part of a picture that holds all that is masked, `padding` pixels around it, in the proportions of `width` by `height`.

    It is moved rather than cut at the picture's edges, and where it is larger than the picture it has other proportions.
    Raises OptionError for a mask that is black.
    """
    found = mask.getbbox()
    if found is None:
        raise OptionError("the mask is black, so there is nothing to paint; what is to be painted anew is white")
    left, top = max(found[0] - padding, 0), max(found[1] - padding, 0)
    right, bottom = min(found[2] + padding, mask.width), min(found[3] + padding, mask.height)
    if (right - left) / (bottom - top) > width / height:
        top, bottom = _widened(top, bottom, int((right - left) / (width / height)), mask.height)
    else:
        left, right = _widened(left, right, int((bottom - top) * (width / height)), mask.width)
    return left, top, right, bottom


def _widened(first: int, last: int, length: int, most: int) -> tuple[int, int]:
    """A span made as long as that around its middle, and moved to lie within 0 … most."""
    more = length - (last - first)
    first, last = first - more // 2, last + more - more // 2
    if last >= most:
        first, last = first - (last - most), most
    if first < 0:
        first, last = 0, last - first
    return first, min(last, most)


def latent_mask(mask: Tensor, size: tuple[int, int], *, soft: bool) -> Tensor:
    """A mask `1 H W` in [0, 1] as latents of a height and width have it: their middle's 0 or 1, or, where `soft`, their mean."""
    if soft:
        return F.interpolate(mask[None], size=size, mode="area")[0]
    return F.interpolate(hard(mask)[None], size=size)[0]


def hard(mask: Tensor) -> Tensor:
    """The mask with 0 below a half and 1 from there."""
    return (mask >= 0.5).float()


def filled_from_around(pixels: Tensor, mask: Tensor) -> Tensor:
    """Pixels `3 h w` with what is masked, `1 h w`, replaced by blurred surroundings: broad strokes far inside, finer ones near the edge."""
    kept = 1 - hard(mask)
    if not bool(kept.any()):
        return torch.zeros_like(pixels)
    out = pixels
    for spread in SPREADS:
        seen = _blur(kept, spread)
        near = (seen > 1e-3).float() if spread != SPREADS[0] else torch.ones_like(seen)
        around = _blur(pixels * kept, spread) / seen.clamp_min(1e-6)
        # Far from everything that is kept there is the mean of all of it.
        mean = (pixels * kept).sum(dim=(-1, -2), keepdim=True) / kept.sum()
        around = torch.where(seen > 1e-3, around, mean)
        out = torch.where((kept == 0) & (near > 0), around, out)
    return out


def _blur(image: Tensor, radius: int) -> Tensor:
    """A Gaussian blur of `c h w`, its edges drawn out."""
    for dim in (-1, -2):
        reach = min(3 * radius, image.shape[dim] - 1)
        places = torch.arange(-reach, reach + 1, dtype=torch.float32)
        weights = torch.exp(-((places / radius) ** 2) / 2)
        kernel = (weights / weights.sum()).reshape(1, 1, -1)
        moved = image.movedim(dim, -1)
        rows = F.pad(moved.reshape(1, -1, moved.shape[-1]), (reach, reach), mode="replicate")
        image = F.conv1d(rows.movedim(1, 0), kernel).reshape(moved.shape).movedim(-1, dim)
    return image


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PasteBack:
    """Lays what was painted into the pictures it was made for: where their masks are black, no pixel of them changes.

    `box` is the part that was painted, where it was not all of it; the picture then has its own size.
    """

    originals: Sequence[Image.Image]
    masks: Sequence[Image.Image]
    box: Box | None = None

    def __call__(self, pixels: Tensor, index: int) -> Tensor:
        """Pixels `3 h w` in [-1, 1] of image `index` of a call, pasted."""
        original, mask = self.originals[index % len(self.originals)], self.masks[index % len(self.masks)]
        painted = Image.fromarray(to_bytes(pixels))
        if self.box is not None:
            left, top, right, bottom = self.box
            whole = original.copy()
            whole.paste(resized(painted, right - left, bottom - top, "crop"), (left, top))
            painted = whole
        pasted = np.asarray(Image.composite(painted, original, mask.resize(original.size)))
        return to_pixels(Image.fromarray(pasted))
