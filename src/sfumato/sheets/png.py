"""A page of a sheet as one picture: labels along the sides, what all share above."""

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sfumato.sheets.lettering import Font, font_for, wrapped
from sfumato.sheets.page import Cell, Page, Sheet

SMALLEST = 192
"""Cells narrower than this are enlarged by a whole factor, pixel by pixel, so that their labels can be read."""
WIDEST = 12_000
"""Pixels along a side that the cells of a page may take; beyond, all are made smaller."""

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
    colour: object
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
        sizes = [cell.image.size for cell in page.all if cell.image is not None] or [(256, 256)]
        self.cell = (
            max(1, round(max(width for width, _ in sizes) * self.scale)),
            max(1, round(max(height for _, height in sizes) * self.scale)),
        )
        side = self.cell[0]
        self.letters = min(30, max(15, side // 15))
        self.gap = max(8, side // 28)
        self.margin = 2 * self.gap
        self.columns = [self._block(label, side, 4, self.letters, _INK) for label in (page.columns if sheet.x else [])]
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
        across, down = len(self.page.columns), len(self.page.rows)
        grid = across * self.cell[0] + (across - 1) * self.gap
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
        height = first + down * self.cell[1] + (down - 1) * self.gap + self.margin
        page = Image.new("RGB", (inner + 2 * self.margin, height), _PAPER)
        pen = ImageDraw.Draw(page)
        y = self.margin
        for block in titles:
            _write(pen, block, self.margin, y)
            y += block.height + self.gap
        begin = self.margin + self.left
        if x_title:
            _write(pen, x_title, begin, first - header, grid)
        for place, block in enumerate(self.columns):
            x = begin + place * (self.cell[0] + self.gap)
            _write(pen, block, x, first - self.gap - block.height, self.cell[0])
        if self.y_title:
            _write(pen, self.y_title, self.margin, first - self.gap - self.y_title.height)
        for row, cells in enumerate(self.page.cells):
            y = first + row * (self.cell[1] + self.gap)
            if self.rows:
                block = self.rows[row]
                _write(pen, block, self.margin, y + (self.cell[1] - block.height) // 2)
            for column, cell in enumerate(cells):
                self._cell(page, pen, cell, begin + column * (self.cell[0] + self.gap), y)
        return page

    def _cell(self, page: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
        if cell.image is not None:
            size = tuple(max(1, round(side * self.scale)) for side in cell.image.size)
            way = Image.Resampling.NEAREST if self.scale >= 1 else Image.Resampling.LANCZOS
            shown = cell.image.convert("RGB")
            shown = shown if size == shown.size else shown.resize(size, way)
            left, top = x + (self.cell[0] - size[0]) // 2, y + (self.cell[1] - size[1]) // 2
            # So that a picture on white has an edge.
            pen.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=_LINE)
            page.paste(shown, (left, top))
            return
        pen.rectangle((x, y, x + self.cell[0] - 1, y + self.cell[1] - 1), fill=_WASH, outline=_RED)
        inner = self.cell[0] - 2 * self.gap
        title = self._block("could not be drawn", inner, 2, self._small, _RED)
        room = (self.cell[1] - title.height - 3 * self.gap) // round(self._small * 1.3)
        why = self._block(cell.failure or "", inner, max(1, room), self._small, _INK)
        _write(pen, title, x + self.gap, y + self.gap)
        _write(pen, why, x + self.gap, y + 2 * self.gap + title.height)

    def _block(self, text: str, width: int, most: int, size: int, colour: object) -> _Block:
        typeface = font_for(text, size)
        return _Block(tuple(wrapped(text, typeface, width, most)), typeface, colour, round(size * 1.3))


def _scale(page: Page) -> float:
    """What the pictures of a page are multiplied by: a whole number for small ones, less than 1 where they are too many or too large."""
    sizes = [cell.image.size for cell in page.all if cell.image is not None] or [(256, 256)]
    width, height = max(width for width, _ in sizes), max(height for _, height in sizes)
    factor = float(max(1, -(-SMALLEST // width)))
    room = min(WIDEST / (len(page.columns) * width), WIDEST / (len(page.rows) * height))
    return factor if factor <= room else min(1.0, room) if room < 1 else float(int(room))


def _write(pen: ImageDraw.ImageDraw, block: _Block, x: int, y: int, width: int | None = None) -> None:
    """Write lines at a place, in the middle of a width if one is given."""
    for number, line in enumerate(block.lines):
        left = x if width is None else x + (width - block.typeface.getlength(line)) / 2
        pen.text((left, y + number * block.leading), line, fill=block.colour, font=block.typeface)
