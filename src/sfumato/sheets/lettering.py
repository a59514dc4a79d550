"""Words on a picture: a typeface that has their letters, and lines that fit a width."""

from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Where Pillow's own typeface has no letter for something, the first of these that the machine has.
_WIDER = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "msgothic.ttc", "Arial.ttf")  # fmt: skip
_ELLIPSIS = "…"


@cache
def font(size: int, wide: bool = False) -> Font:
    """The typeface in a size of pixels; `wide` for letters beyond Latin ones, if the machine has any that has them."""
    for name in _WIDER if wide else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def font_for(text: str, size: int) -> Font:
    """A typeface that has the letters of a text, as far as the machine has one."""
    return font(size, wide=any(_is_missing(letter) for letter in set(text)))


@cache
def _is_missing(letter: str) -> bool:
    """Whether Pillow's own typeface draws a letter as it draws what is none."""
    if letter.isascii():
        return False
    own = font(16)
    drawn, none = (Image.new("L", (24, 24)), Image.new("L", (24, 24)))
    for image, text in ((drawn, letter), (none, "\uffff")):
        ImageDraw.Draw(image).text((2, 2), text, fill=255, font=own)
    return drawn.tobytes() == none.tobytes()


def wrapped(text: str, typeface: Font, width: int, most: int) -> list[str]:
    """The text in at most `most` lines of so many pixels, broken between words where that can be; the last ends in … if there was more."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if typeface.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            line = word
            while typeface.getlength(line) > width and len(line) > 1 and len(lines) <= most:
                fits = _fitting(line, typeface, width)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
        if len(lines) > most:
            break
    if len(lines) > most:
        last = lines[most - 1]
        while last and typeface.getlength(last + _ELLIPSIS) > width:
            last = last[:-1]
        lines[most - 1 :] = [last.rstrip() + _ELLIPSIS]
    return lines


def _fitting(word: str, typeface: Font, width: int) -> int:
    """How many letters of a long word fit, one at least."""
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if typeface.getlength(word[:middle]) <= width else (low, middle - 1)
    return low
