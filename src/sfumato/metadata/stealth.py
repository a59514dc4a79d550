"""Text in the lowest bits of a picture's pixels: "stealth PNG info", as NovelAI and extensions of the web UI write it.

The bits run down the columns, from left to right, the highest of each byte first: one of a pixel's alpha, or one each of red, green and
blue. Fifteen letters say which form it is, 32 bits the number of bits that follow, and these are UTF-8, plain or in gzip.
"""

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.metadata.draft import LONGEST

SIGNATURES = {
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
_LETTERS = 15
_HEAD = (_LETTERS + 4) * 8


def hidden_text(image: Image.Image) -> str | None:
    """The text in a picture's lowest bits; None where there is none, or a damaged one. Reads no more than the text may be long."""
    for bands in ("A", "RGB"):
        if not set(bands) <= set(image.getbands()):
            continue
        head = _bytes(image, bands, _HEAD)
        form = SIGNATURES.get(head[:_LETTERS])
        if form is None or form[0] != bands:
            continue
        bits = int.from_bytes(head[_LETTERS:], "big")
        if bits % 8 or not 0 < bits <= min(LONGEST * 8, image.width * image.height * len(bands) - _HEAD):
            return None
        return _decoded(_bytes(image, bands, _HEAD + bits)[_LETTERS + 4 :], compressed=form[1])
    return None


def _bytes(image: Image.Image, bands: str, bits: int) -> bytes:
    """The first bits of these bands' lowest, as bytes."""
    columns = -(-bits // (image.height * len(bands)))
    part = image.crop((0, 0, min(columns, image.width), image.height))
    planes: list[NDArray[np.uint8]] = [np.asarray(part.getchannel(band)) for band in bands]
    lowest = np.stack(planes, axis=-1).transpose(1, 0, 2).reshape(-1)[:bits] & 1
    return np.packbits(lowest).tobytes()


def _decoded(content: bytes, *, compressed: bool) -> str | None:
    if compressed:
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, LONGEST)
        except zlib.error:
            return None
    return content.decode("utf-8", "replace") or None
