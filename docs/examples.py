"""The examples of a document, in their order, and the pictures that show what became of them.

A picture with a title is made of the files that the title names, which the commands above it wrote: `![an apple](images/a.webp "a.png b.png")`.
`a.png*2` is a picture laid beside itself, two by two.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

EXAMPLE = re.compile(
    r'^```(?P<language>bash|python)\n(?P<block>.*?)^```$|!\[[^\]]*\]\((?P<picture>\S+) "(?P<files>[^"]+)"\)',
    re.MULTILINE | re.DOTALL,
)
ELSEWHERE = "path/or/hub-id"
"""What Python that opens a model of the reader's says in its place."""

LARGEST = 3
WIDEST = 800
GAP = 12
CAPTION = 18


@dataclass(frozen=True, slots=True)
class Command:
    """`sfumato` with these words."""

    words: tuple[str, ...]

    @property
    def needs_another_model(self) -> bool:
        """Whether it names a model, which the package then does not have."""
        return "--model" in self.words


@dataclass(frozen=True, slots=True)
class Python:
    """A block of Python; those of one document share their names."""

    text: str

    @property
    def needs_another_model(self) -> bool:
        """Whether it opens a model of the reader's."""
        return ELSEWHERE in self.text


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture beside the document, made of files that were written before."""

    picture: str
    files: tuple[str, ...]


Example = Command | Python | Shown


def read_examples(document: Path) -> list[Example]:
    """The examples of a document, in their order."""
    return list(_examples(document.read_text(encoding="utf-8")))


def _examples(text: str) -> Iterator[Example]:
    for found in EXAMPLE.finditer(text):
        if found["picture"]:
            yield Shown(found["picture"], tuple(found["files"].split()))
        elif found["language"] == "python":
            yield Python(found["block"])
        else:
            for line in found["block"].splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["sfumato"]:
                    yield Command(tuple(words[1:]))


def carry_out(example: Command | Python, names: dict[str, Any], more: Sequence[str] = ()) -> None:
    """Run an example in the folder that is open, a command with `more` options. Raises RuntimeError for a command that fails."""
    if isinstance(example, Python):
        exec(compile(example.text, "example", "exec"), names)
        return
    from sfumato.cli.app import run

    if code := run([*example.words, *more]):
        raise RuntimeError(f"sfumato {shlex.join(example.words)} ended with {code}")


def side_by_side(files: Sequence[str], folder: Path) -> Image.Image:
    """The pictures of the files in one row, each with its name below, enlarged by a whole factor so that small ones can be seen."""
    pictures = [_opened(file, folder) for file in files]
    room = WIDEST - GAP * (len(pictures) - 1)
    factor = max(1, min(LARGEST, room // sum(picture.width for picture in pictures)))
    pictures = [one.resize((one.width * factor, one.height * factor), Image.Resampling.LANCZOS) for one in pictures]
    captions = [file.partition("*")[0] for file in files] if len(files) > 1 else []
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    height = max(picture.height for picture in pictures)
    sheet = Image.new("RGB", (width, height + (CAPTION if captions else 0)), "white")
    draw, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(size=11), 0
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (x, height - picture.height))
        draw.rectangle((x, height - picture.height, x + picture.width - 1, height - 1), outline="#ddd")
        if captions:
            draw.text((x + picture.width / 2, height + 3), captions[place], fill="#555", font=font, anchor="ma")
        x += picture.width + GAP
    return sheet


def _opened(file: str, folder: Path) -> Image.Image:
    """The picture of a file; with `*2` behind its name, laid beside itself."""
    name, _, times = file.partition("*")
    with Image.open(folder / name) as opened:
        picture = opened.convert("RGB")
    if not times:
        return picture
    laid = Image.new("RGB", (picture.width * int(times), picture.height * int(times)))
    for down in range(int(times)):
        for across in range(int(times)):
            laid.paste(picture, (across * picture.width, down * picture.height))
    return laid
