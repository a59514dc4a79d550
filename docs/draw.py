"""Draws the pictures of the README again, with the bundled model: `make docs`.

Same recipe, same image: on one machine the files come out byte for byte as they were.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sfumato import StableDiffusionPipeline, bundled_model

PROMPTS = (
    "a red apple, 3d style", "a penguin, 3d style", "castle, 3d style", "an owl in flat style", "guitar, flat style", "draw me a taxi cab please",
    "hamburger", "a sunflower", "a rocket, noto style", "a crown, 3d style", "a clown head, 3d style", "brolly, flat style",
    "a green car", "a yellow umbrella", "an orange fish", "a blue rose", "a purple cat face, flat style", "a blue heart",
    "a dog face on yellow", "a penguin on blue", "a tree on pink", "an owl on green", "a raccoon face on orange", "a camel on purple",
)  # fmt: skip
COLUMNS = 6
SCALE = 2
CAPTION = 22
PAD = 8


def main() -> None:
    """Draw the README's grid into docs/images."""
    folder = Path(__file__).parent / "images"
    folder.mkdir(exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(bundled_model())
    pictures = pipe(list(PROMPTS), seeds=[1] * len(PROMPTS)).images
    labelled_grid(pictures, PROMPTS).save(folder / "grid.png", optimize=True)
    print(folder / "grid.png")


def labelled_grid(pictures: list[Image.Image], labels: tuple[str, ...]) -> Image.Image:
    """The pictures enlarged, each with its prompt below."""
    side = pictures[0].width * SCALE
    cell = (side + 2 * PAD, side + PAD + CAPTION)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[0], rows * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        row, column = divmod(place, COLUMNS)
        x, y = column * cell[0], row * cell[1]
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x + PAD, y + PAD))
        draw.text((x + cell[0] / 2, y + PAD + side + 3), label, fill="#555", font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main()
