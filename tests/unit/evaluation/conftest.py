"""A small dataset of made-up art: five shapes in three styles."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sfumato.evaluation import Classifier, Gallery, load_classifier
from sfumato.evaluation.real_art import build_gallery
from sfumato.training.data.pack import ArtDataset, Record

SIZE = 48
THINGS = {
    "disc": ("red disc", "round thing"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "cross": ("cross", "plus"),
    "frame": ("frame", "empty box"),
}
STYLES = ("plain", "inked", "dotted")
HELD_OUT = {("square", "inked"), ("cross", "dotted")}


def drawing(thing: str, style: str, colour: tuple[int, int, int] = (200, 40, 40)) -> np.ndarray:
    """One RGBA drawing."""
    image = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    look = {"fill": colour, "outline": (20, 20, 20) if style == "inked" else colour, "width": 3}
    match thing:
        case "disc":
            pen.ellipse((4, 4, 43, 43), **look)
        case "square":
            pen.rectangle((4, 4, 43, 43), **look)
        case "triangle":
            pen.polygon(((24, 3), (44, 44), (3, 44)), **look)
        case "cross":
            pen.rectangle((18, 3, 29, 44), **look)
            pen.rectangle((3, 18, 44, 29), **look)
        case _:
            pen.rectangle((4, 4, 43, 43), outline=colour, width=9)
    if style == "dotted":
        for x in range(6, SIZE, 9):
            pen.point([(x, y) for y in range(6, SIZE, 9)], fill=(0, 0, 0, 255))
    return np.array(image)


@pytest.fixture(scope="session")
def art() -> ArtDataset:
    pairs = [(thing, style) for thing in THINGS for style in STYLES]
    records = tuple(
        Record(
            thing=thing,
            style=style,
            code=f"{number:x}",
            source="made up",
            licence="none",
            split="held_out" if (thing, style) in HELD_OUT else "train",
            names=THINGS[thing],
        )
        for number, (thing, style) in enumerate(pairs)
    )
    return ArtDataset(np.stack([drawing(*pair) for pair in pairs]), records)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return load_classifier()


@pytest.fixture(scope="session")
def gallery(art: ArtDataset, classifier: Classifier) -> Gallery:
    return build_gallery(art, classifier, cases=6)
