"""Contact sheets: every picture of a kind with its prompt, the failed ones framed in red with what they were taken for."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sfumato.evaluation.evaluate import Drawn
from sfumato.files import write_whole

_SIDE = 128  # of each picture on the sheet
_GAP = 10
_LINE = 12
_LINES = 5
_LETTERS = 25  # that fit on a line of that width
_FRAME = 3
_RED, _GREEN, _BLACK = (205, 30, 30), (25, 125, 45), (30, 30, 30)


def write_sheet(path: Path, drawn: Sequence[Drawn], *, columns: int = 10) -> None:
    """Write the pictures, row by row, as a PNG, in place of one that is there. Raises OutputError when it can't be written."""
    cell = (_SIDE + _GAP, _SIDE + _LINES * _LINE + _GAP)
    rows = -(-len(drawn) // columns)
    page = Image.new("RGB", (min(columns, len(drawn)) * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=10)
    for place, one in enumerate(drawn):
        x, y = _GAP + place % columns * cell[0], _GAP + place // columns * cell[1]
        if one.picture is not None:
            shown = Image.fromarray(one.picture)
            # Small pixels are shown as they are; a large picture is made smaller.
            way = Image.Resampling.NEAREST if shown.width <= _SIDE else Image.Resampling.LANCZOS
            page.paste(shown.resize((_SIDE, _SIDE), way), (x, y))
        passed = one.verdict.passed
        box = (x - _FRAME, y - _FRAME, x + _SIDE + _FRAME - 1, y + _SIDE + _FRAME - 1)
        pen.rectangle(box, outline=(215, 215, 215) if passed else _RED, width=1 if passed else _FRAME)
        asked = textwrap.wrap(one.case.prompt, _LETTERS)[:3]
        seen = textwrap.wrap(seen_in(one), _LETTERS)[: _LINES - len(asked)]
        for number, line in enumerate(asked + seen):
            colour = _BLACK if number < len(asked) else _GREEN if passed else _RED
            pen.text((x, y + _SIDE + 3 + number * _LINE), line, fill=colour, font=font)
    png = io.BytesIO()
    page.save(png, "PNG", optimize=True)
    write_whole(path, png.getvalue(), overwrite=True)


def seen_in(one: Drawn) -> str:
    """What a picture was taken for, in a few words: "blue; apple", "dog on yellow", "cat | pizza", "nothing"."""
    if one.picture is None:
        return "could not be made"
    verdict = one.verdict
    nearest = [half[0] if half else "nothing" for half in verdict.taken_for]
    if len(nearest) == 2:
        # Where it was right, the words that made it so, rather than the nearest of all.
        wanted = set().union(*one.case.answers)
        nearest = [next((t for t in half if t in wanted), half[0]) if half else "nothing" for half in verdict.taken_for]
    said = " | ".join(nearest)
    if one.case.colour is not None:
        said = f"{verdict.colour or 'many colours'}; {said}"
    return said if one.case.ground is None else f"{said} on {verdict.ground}"
