"""Draws the pictures of the README again, with the bundled model: `make docs`.

Same recipe, same image: on one machine the files come out byte for byte as they were.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sfumato import StableDiffusionPipeline, bundled_model

PROMPTS = (
    "a red apple, 3d style", "cat face", "pizza, flat style", "rocket, 3d style", "an octopus, 3d style", "castle, flat style",
    "guitar, 3d style", "dog face, 3d style", "strawberry, 3d style", "a penguin, 3d style", "bicycle, flat style", "cactus, 3d style",
    "hamburger, 3d style", "sunflower, flat style", "fox, 3d style", "umbrella, flat style", "crown, 3d style", "tropical fish, flat style",
    "balloon, 3d style", "mushroom, 3d style", "sun, flat style", "panda, 3d style", "butterfly, flat style", "key, 3d style",
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
