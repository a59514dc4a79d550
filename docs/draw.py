"""Draws the pictures of the README and of the documents again, with the bundled model: `make docs`.

Those of the documents are made by the commands that stand above them. `make docs ARGS=workflows.md` draws one document's.
Same recipe, same image: on one machine the files come out byte for byte as they were.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from examples import Shown, carry_out, read_examples, side_by_side
from PIL import Image, ImageDraw, ImageFont

from sfumato import StableDiffusionPipeline, bundled_model

DOCS = Path(__file__).resolve().parent
ILLUSTRATED = ("workflows.md", "guidance.md", "prompts.md", "grids.md")

PROMPTS = (
    "a red apple, 3d style", "a penguin, glossy style", "castle, 3d style", "an owl, classic style", "guitar, flat style", "draw me a taxi cab please",
    "hamburger", "a sunflower", "a rocket, noto style", "a robot, outlined style", "a top hat, twemoji style", "brolly, flat style",
    "a green car", "a yellow umbrella", "an orange fish", "a blue rose", "a purple cat, flat style", "a blue heart",
    "a penguin on blue", "a tree on pink", "a unicorn on orange", "red car and blue umbrella", "an owl above a crown", "two penguins",
)  # fmt: skip
COLUMNS = 6
SIDE = 128
CAPTION = 22
PAD = 8


def main(documents: Sequence[str]) -> None:
    """Draw the pictures of the documents named, or of all and the README, into docs/images."""
    (DOCS / "images").mkdir(exist_ok=True)
    if not documents:
        draw_grid(DOCS / "images/grid.png")
    for document in documents or ILLUSTRATED:
        illustrate(DOCS / document)


def illustrate(document: Path) -> None:
    """Carry out a document's examples in a folder of their own, up to its last picture, and make its pictures of what they wrote."""
    examples = read_examples(document)
    while examples and not isinstance(examples[-1], Shown):
        examples.pop()
    names: dict[str, Any] = {}
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        for example in examples:
            if isinstance(example, Shown):
                path = document.parent / example.picture
                side_by_side(example.files, Path(folder)).save(path, quality=88, method=6)
                print(path)
            elif not example.needs_another_model:
                carry_out(example, names)


def draw_grid(path: Path) -> None:
    """The README's grid."""
    pipe = StableDiffusionPipeline.from_pretrained(bundled_model())
    pictures = pipe(list(PROMPTS), seeds=[1] * len(PROMPTS)).images
    labelled_grid(pictures, PROMPTS).save(path, optimize=True)
    print(path)


def labelled_grid(pictures: list[Image.Image], labels: tuple[str, ...]) -> Image.Image:
    """The pictures at one size, each with its prompt below."""
    cell = (SIDE + 2 * PAD, SIDE + PAD + CAPTION)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[0], rows * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        row, column = divmod(place, COLUMNS)
        x, y = column * cell[0], row * cell[1]
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x + PAD, y + PAD))
        draw.text((x + cell[0] / 2, y + PAD + SIDE + 3), label, fill="#555", font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main(sys.argv[1:])
