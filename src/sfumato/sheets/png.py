"""A page of a sheet as one picture: labels along the sides, what all share above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from PIL import Image, ImageDraw

from sfumato.sheets.lettering import Font, font_for, wrapped
from sfumato.sheets.page import Cell, Page, Sheet

SMALLEST = 192
"""Cells narrower than this are enlarged by a whole factor, pixel by pixel, so that their labels can be read."""
WIDEST = 12_000
"""Pixels along a side that the cells of a page may take; beyond, all are made smaller."""

Colour: TypeAlias = str | tuple[int, int, int]

_PAPER, _INK, _GREY, _LINE = "white", (28, 28, 30), (112, 112, 118), (222, 222, 226)
_WASH, _RED = (251, 240, 239), (176, 42, 36)


def draw_page(sheet: Sheet, page: Page) -> Image.Image:
    """The page with the sheet's title and caption, RGB."""
    return _Drawing(sheet, page).draw()


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one size and colour."""

    lines: tuple[str, ...]
    typeface: Font
    colour: Colour
    leading: int

    @property
    def width(self) -> int:
        return math.ceil(max((self.typeface.getlength(line) for line in self.lines), default=0))

    @property
    def height(self) -> int:
        return len(self.lines) * self.leading


class _Drawing:
    def __init__(self, sheet: Sheet, page: Page) -> None:
        self.sheet, self.page = sheet, page
        self.scale = _scale(page)
        # A column is as wide as its widest picture, and a row as high as its highest.
        self.widths = _largest(list(zip(*page.cells, strict=True)), 0, self.scale)
        self.heights = _largest(page.cells, 1, self.scale)
        side = max(self.widths)
        self.letters = min(30, max(15, side // 15))
        self.gap = max(8, side // 28)
        self.margin = 2 * self.gap
        self.columns = [
            self._block(label, width, 4, self.letters, _INK)
            for label, width in zip(page.columns if sheet.x else (), self.widths, strict=False)
        ]
        self.rows = [
            self._block(label, round(side * 0.8), 8, self.letters, _INK) for label in (page.rows if sheet.y else [])
        ]
        self.y_title = self._block(sheet.y, round(side * 0.8), 3, self._small, _GREY) if sheet.y else None
        self.left = max((one.width for one in [*self.rows, *([self.y_title] if self.y_title else [])]), default=0)
        self.left += self.gap if self.left else 0

    @property
    def _small(self) -> int:
        return max(13, round(self.letters * 0.8))

    def draw(self) -> Image.Image:
        grid = sum(self.widths) + (len(self.widths) - 1) * self.gap
        # Words are not squeezed under a narrow grid.
        inner = max(self.left + grid, 300)
        titles = [
            self._block(self.sheet.title, inner, 6, round(self.letters * 1.25), _INK),
            self._block(self.sheet.caption, inner, 4, self._small, _GREY),
        ]
        if self.page.heading:
            titles.append(self._block(self.page.heading, inner, 4, round(self.letters * 1.1), _INK))
        titles = [one for one in titles if one.lines != ("",)]
        x_title = self._block(self.sheet.x, grid, 2, self._small, _GREY) if self.sheet.x else None
        labels = max((one.height for one in self.columns), default=0)
        top = self.margin + sum(one.height + self.gap for one in titles)
        header = (x_title.height + self.gap // 2 if x_title else 0) + labels + (self.gap if labels else 0)
        first = top + max(header, self.y_title.height + self.gap if self.y_title else 0)
        height = first + sum(self.heights) + (len(self.heights) - 1) * self.gap + self.margin
        page = Image.new("RGB", (inner + 2 * self.margin, height), _PAPER)
        pen = ImageDraw.Draw(page)
        y = self.margin
        for block in titles:
            _write(pen, block, self.margin, y)
            y += block.height + self.gap
        begin = self.margin + self.left
        if x_title:
            _write(pen, x_title, begin, first - header, grid)
        across = _starts(begin, self.widths, self.gap)
        for block, x, width in zip(self.columns, across, self.widths, strict=False):
            _write(pen, block, x, first - self.gap - block.height, width)
        if self.y_title:
            _write(pen, self.y_title, self.margin, first - self.gap - self.y_title.height)
        down = _starts(first, self.heights, self.gap)
        for block, y, height in zip(self.rows, down, self.heights, strict=False):
            _write(pen, block, self.margin, y + (height - block.height) // 2)
        for cells, y, height in zip(self.page.cells, down, self.heights, strict=True):
            for cell, x, width in zip(cells, across, self.widths, strict=True):
                self._cell(page, pen, cell, (x, y), (width, height))
        return page

    def _cell(
        self, page: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, at: tuple[int, int], room: tuple[int, int]
    ) -> None:
        (x, y), (width, height) = at, room
        if cell.image is not None:
            size = (max(1, round(cell.image.width * self.scale)), max(1, round(cell.image.height * self.scale)))
            way = Image.Resampling.NEAREST if self.scale >= 1 else Image.Resampling.LANCZOS
            shown = cell.image.convert("RGB")
            shown = shown if size == shown.size else shown.resize(size, way)
            left, top = x + (width - size[0]) // 2, y + (height - size[1]) // 2
            # So that a picture on white has an edge.
            pen.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=_LINE)
            page.paste(shown, (left, top))
            return
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=_WASH, outline=_RED)
        inner = width - 2 * self.gap
        title = self._block("could not be drawn", inner, 2, self._small, _RED)
        lines = (height - title.height - 3 * self.gap) // round(self._small * 1.3)
        why = self._block(cell.failure or "", inner, max(1, lines), self._small, _INK)
        _write(pen, title, x + self.gap, y + self.gap)
        _write(pen, why, x + self.gap, y + 2 * self.gap + title.height)

    def _block(self, text: str, width: int, most: int, size: int, colour: Colour) -> _Block:
        typeface = font_for(text, size)
        return _Block(tuple(wrapped(text, typeface, width, most)), typeface, colour, round(size * 1.3))


def _scale(page: Page) -> float:
    """What the pictures of a page are multiplied by: a whole number for small ones, less than 1 where they are too many or too large."""
    sizes = [cell.image.size for cell in page.all if cell.image is not None] or [(256, 256)]
    width, height = max(width for width, _ in sizes), max(height for _, height in sizes)
    factor = float(max(1, -(-SMALLEST // width)))
    room = min(WIDEST / (len(page.columns) * width), WIDEST / (len(page.rows) * height))
    return factor if factor <= room else min(1.0, room) if room < 1 else float(int(room))


def _largest(lines: Sequence[Sequence[Cell]], side: int, scale: float) -> list[int]:
    """The longest side on the page of each line's pictures; of a line without any, that of all."""
    longest = [max((cell.image.size[side] for cell in line if cell.image is not None), default=0) for line in lines]
    return [max(1, round((one or max(longest) or 256) * scale)) for one in longest]


def _starts(first: int, lengths: Sequence[int], gap: int) -> list[int]:
    """Where things of these lengths begin, one behind the other."""
    return list(accumulate((length + gap for length in lengths[:-1]), initial=first))


def _write(pen: ImageDraw.ImageDraw, block: _Block, x: int, y: int, width: int | None = None) -> None:
    """Write lines at a place, in the middle of a width if one is given."""
    for number, line in enumerate(block.lines):
        left = x if width is None else x + (width - block.typeface.getlength(line)) / 2
        pen.text((left, y + number * block.leading), line, fill=block.colour, font=block.typeface)
