"""Sheets as PNG and as HTML: everything in its place, and nothing from elsewhere."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from sfumato.recipe import Recipe
from sfumato.sheets import Cell, Page, Sheet, differences, draw_page, web_page
from sfumato.sheets.lettering import font, wrapped

RECIPE = Recipe(
    prompt="a <cat>", seed=1, sampler="euler", scheduler={"schedule": "karras"}, steps=5, guidance_scale=3, width=64, height=64,
    dtype="float32", device="cpu", model="m",
)  # fmt: skip
RED, BLUE = Image.new("RGB", (64, 64), (255, 0, 0)), Image.new("RGB", (32, 64), (0, 0, 255))


def sheet(*rows: tuple[Cell, ...], x: str = "steps", y: str = "sampler", label: str = "5") -> Sheet:
    columns, names = tuple([label] * len(rows[0])), tuple(f"row {n}" for n in range(len(rows)))
    page = Page(heading="", columns=columns, rows=names, cells=rows)
    return Sheet(title="a <cat>", caption="seed 1", x=x, y=y, pages=(page,))


def made(image: Image.Image) -> Cell:
    return Cell(image=image, recipe=RECIPE)


def test_small_pictures_are_enlarged_by_a_whole_factor_and_stand_in_a_grid() -> None:
    one = sheet((made(RED), made(BLUE)), (Cell(failure="out of memory"), made(RED)))
    page = np.asarray(draw_page(one, one.pages[0]))
    red, blue = (np.argwhere((page == colour).all(axis=2)) for colour in ((255, 0, 0), (0, 0, 255)))
    assert len(red) == 2 * 192 * 192
    assert len(blue) == 96 * 192
    # The narrower one is in the middle of its cell, which is that of the wider one below.
    assert blue[:, 1].min() - red[red[:, 0] > blue[:, 0].max()][:, 1].min() == 48
    wash = np.argwhere((page == (251, 240, 239)).all(axis=2))
    assert wash.size
    assert wash[:, 0].min() > blue[:, 0].max()


def test_large_pictures_are_shown_as_they_are_and_too_many_are_made_smaller() -> None:
    one = sheet((made(RED.resize((512, 512))),))
    assert (np.asarray(draw_page(one, one.pages[0])) == (255, 0, 0)).all(axis=2).sum() == 512 * 512
    many = sheet(tuple([made(RED.resize((1024, 16)))] * 24))
    assert 12_000 < draw_page(many, many.pages[0]).width < 13_500


def test_lines_fit_their_width_and_say_when_there_was_more() -> None:
    typeface = font(16)
    text = "a cat and " + "averyveryverylongwordthatfitsnowhere" * 3 + " and so on " * 40
    lines = wrapped(text, typeface, 120, 6)
    assert len(lines) == 6
    assert lines[-1].endswith("…")
    assert all(typeface.getlength(line) <= 120 for line in lines)
    assert wrapped("a cat", typeface, 120, 3) == ["a cat"]
    assert wrapped("", typeface, 120, 3) == [""]
    long = sheet((made(RED),), label="word " * 100)
    assert draw_page(long, long.pages[0]).height < 500


def test_what_differs() -> None:
    other = replace(
        RECIPE, steps=9, guidance_scale=1.5, scheduler={"schedule": "uniform"}, workflow_options={"strength": 0.5}, pixels_sha256="0" * 64,
    )  # fmt: skip
    assert differences(RECIPE, other) == [
        ("schedule", "uniform"),
        ("steps", "9"),
        ("guidance", "1.5"),
        ("strength", "0.5"),
    ]
    assert differences(RECIPE, RECIPE) == []


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_holds_everything_and_is_closed_to_what_is_in_it() -> None:
    cell = Cell(image=RED, recipe=replace(RECIPE, prompt='"><script>alert(1)</script>', steps=7))
    page = web_page(sheet((made(RED), cell), (Cell(failure="<b>NaN</b>"), made(BLUE))), {"prompt": "</script><b>"})
    reader = _Reader()
    reader.feed(page)
    assert len(reader.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert reader.tags.count("script") == 2
    assert "b" not in reader.tags
    assert not re.search(r"https?://", page)
    assert "steps 7" in reader.text
    assert "<b>NaN</b>" in reader.text
