"""Pictures in and out: arrays into images, images into files that carry their recipe, and recipes out of files."""

import contextlib
import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import ImageError, OptionError, OutputError, RecipeError, SizeError
from sfumato.files import write_whole
from sfumato.infotext import infotext
from sfumato.recipe import Recipe, pixels_sha256

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Names of the text chunks in a PNG: the recipe as JSON, and AUTOMATIC1111's text, which other tools read.
RECIPE_CHUNK = "sfumato"
INFOTEXT_CHUNK = "parameters"

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ANIMATION_FORMATS = {".gif": "GIF", ".webp": "WEBP"}
# A JPEG keeps its EXIF in one segment, of at most 65,533 bytes with its marks.
JPEG_EXIF_LIMIT = 65_533
USER_COMMENT_UNICODE = b"UNICODE\x00"


def to_pil(pixels: "NDArray[np.uint8]") -> Image.Image:
    """The picture of `height width 3` bytes."""
    assert pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3, f"{pixels.dtype} {pixels.shape}"  # noqa: PT018
    return Image.fromarray(pixels)


def embedding(recipe: Recipe | Sequence[Recipe], format: str) -> dict[str, Any]:  # noqa: A002 - Pillow's word
    """The options of Pillow's `save` that put a recipe into a file of this format, in our words and in the web UI's.

    PNG: the text chunks `sfumato` and `parameters`. JPEG and WebP: EXIF, with the web UI's text as the user comment and the recipe as the
    maker note. Other formats have no place for it: no options. A grid takes the list of its pictures' recipes; the web UI's text is then
    the first one's, as the web UI does it.
    Raises OutputError when it does not fit.
    """
    recipes = [recipe] if isinstance(recipe, Recipe) else list(recipe)
    assert recipes
    ours = recipe.to_json() if isinstance(recipe, Recipe) else f"[{', '.join(one.to_json() for one in recipes)}]"
    theirs = infotext(recipes[0])
    match format.upper():
        case "PNG":
            chunks = PngInfo()
            chunks.add_text(RECIPE_CHUNK, ours)
            chunks.add_text(INFOTEXT_CHUNK, theirs)
            return {"pnginfo": chunks}
        case "JPEG" | "WEBP" as known:
            exif = Image.Exif()
            exif[ExifTags.Base.Software] = "Sfumato"
            details = exif.get_ifd(ExifTags.IFD.Exif)
            details[ExifTags.Base.UserComment] = USER_COMMENT_UNICODE + theirs.encode("utf-16-be")
            details[ExifTags.Base.MakerNote] = ours.encode("ascii")
            packed = exif.tobytes()
            for tag in (ExifTags.Base.UserComment, ExifTags.Base.MakerNote):
                packed = _as_undefined(packed, tag, len(details[tag]))
            if known == "JPEG" and len(packed) > JPEG_EXIF_LIMIT:
                raise OutputError(
                    f"the recipe takes {len(packed)} bytes and a JPEG has room for {JPEG_EXIF_LIMIT}; save as PNG or WebP"
                )
            return {"exif": packed}
        case _:
            return {}


def save_image(
    image: Image.Image,
    path: Path,
    recipe: Recipe | Sequence[Recipe] | None = None,
    *,
    overwrite: bool = False,
    chunks: Mapping[str, str] | None = None,
) -> None:
    """Write a picture whole or not at all, with its recipe (a grid: the list of them); the suffix says the format: .png, .webp (both lossless) or .jpg.

    `chunks` are further texts for a PNG, by the names of their chunks; `read_chunk` reads them.
    Raises OptionError for another suffix, OutputError when the file exists (unless `overwrite`) or can't be written.
    """
    kind = format_of(path, FORMATS)
    options: dict[str, Any] = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}[kind]
    if recipe is not None:
        options |= embedding(recipe, kind)
    if chunks is not None:
        assert kind == "PNG", "other formats have no such texts"
        info = options.setdefault("pnginfo", PngInfo())
        for name, text in chunks.items():
            info.add_text(name, text)
    write_whole(path, _encoded(image, kind, options), overwrite=overwrite)


def save_animation(
    frames: Sequence[Image.Image], path: Path, *, overwrite: bool = False, frame_ms: int = 80, last_ms: int = 1600
) -> None:
    """Write a GIF or WebP that shows the frames in turn, for ever, and stays on the last.

    Raises OptionError for no frames or another suffix, OutputError when the file exists (unless `overwrite`) or can't be written.
    """
    if not frames:
        raise OptionError("an animation needs at least one frame")
    kind = format_of(path, ANIMATION_FORMATS)
    durations = [*[frame_ms] * (len(frames) - 1), last_ms]
    options = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    write_whole(path, _encoded(frames[0], kind, options), overwrite=overwrite)


def format_of(path: Path, formats: dict[str, str]) -> str:
    """Pillow's name of the format that a file's suffix says. Raises OptionError for a suffix not among `formats`."""
    kind = formats.get(path.suffix.lower())
    if kind is None:
        raise OptionError(f"{path.name!r} has the suffix {path.suffix!r}; expected one of {', '.join(formats)}")
    return kind


def image_grid(images: Sequence[Image.Image], rows: int, cols: int) -> Image.Image:
    """The pictures side by side, row by row. Raises OptionError unless there are rows × cols, SizeError unless all have one size."""
    if rows < 1 or cols < 1:
        raise OptionError(f"a grid of {rows} rows and {cols} columns has no place for pictures; both must be 1 or more")
    if len(images) != rows * cols:
        raise OptionError(f"a grid of {rows} rows and {cols} columns takes {rows * cols} pictures, not {len(images)}")
    width, height = images[0].size
    if other := next((image.size for image in images if image.size != (width, height)), None):
        raise SizeError(
            f"the pictures of a grid must have one size; these are {width}x{height} and {other[0]}x{other[1]}"
        )
    grid = Image.new("RGB", (cols * width, rows * height))
    for place, image in enumerate(images):
        row, column = divmod(place, cols)
        grid.paste(image, (column * width, row * height))
    return grid


def read_recipe(path: Path) -> Recipe:
    """The recipe that a picture carries, or that a JSON file is.

    Raises ImageError when the file can't be read, RecipeError when it carries no recipe or a damaged one.
    """
    if path.suffix.lower() == ".json":
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ImageError(f"can't read {path}: {error.strerror or error}") from error
        return _parse_recipe(text)
    recipe, text = read_embedded(path)
    if recipe is not None:
        if recipe.startswith("["):
            raise RecipeError(
                f"{path} is a grid of pictures; take one of them, or one of the recipes that `sfumato inspect` shows"
            )
        return _parse_recipe(recipe)
    if text is not None:
        raise RecipeError(f"{path} carries the settings of another program and no recipe; `sfumato inspect` shows them")
    raise RecipeError(
        f"{path} carries no recipe; only pictures that Sfumato saved do, unless another program has rewritten them"
    )


def parse_recipes(text: str) -> list[Recipe]:
    """The recipes of an embedded JSON text: one, or a list of a grid's. Raises RecipeError."""
    if not text.startswith("["):
        return [_parse_recipe(text)]
    try:
        entries = [json.dumps(entry) for entry in json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the recipes of this grid are damaged: not valid JSON ({error})") from error
    return [_parse_recipe(entry) for entry in entries]


def _parse_recipe(text: str | bytes) -> Recipe:
    try:
        return Recipe.from_json(text)
    except RecursionError as error:
        raise RecipeError(f"the recipe is damaged: nested too deeply ({error})") from error


def read_embedded(path: Path) -> tuple[str | None, str | None]:
    """What a picture carries: the recipe's JSON (a grid: a list of them) and AUTOMATIC1111's text, each None if it is not there. Raises ImageError."""
    with opened(path) as image:
        if image.format == "PNG":
            image.load()  # chunks may also stand after the pixels
            return _text(image.info.get(RECIPE_CHUNK)), _text(image.info.get(INFOTEXT_CHUNK))
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
        comment, note = details.get(ExifTags.Base.UserComment), details.get(ExifTags.Base.MakerNote)
        recipe = (
            note.decode("ascii", "replace")
            if isinstance(note, bytes) and note.startswith((b'{"prompt"', b'[{"prompt"'))
            else None
        )
        return recipe, _user_comment(comment)


def read_chunk(path: Path, name: str) -> str | None:
    """The text of that name in a PNG; None where there is none, or it is no PNG. Raises ImageError."""
    with opened(path) as image:
        image.load()  # chunks may also stand after the pixels
        return _text(image.info.get(name)) if image.format == "PNG" else None


def pixels_sha256_of(path: Path) -> str:
    """The hash of a picture file's pixels, to lay beside its recipe's `pixels_sha256`. Raises ImageError."""
    import numpy as np

    with opened(path) as image:
        return pixels_sha256(np.asarray(image.convert("RGB")))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file, open for as long as the block lasts; what is wrong with it, in the block too, is an ImageError."""
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} claims to be too large to be opened safely: {error}") from error
    except FileNotFoundError as error:
        raise ImageError(f"no picture at {path}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        raise ImageError(f"{path} is damaged, or can't be read: {getattr(error, 'strerror', None) or error}") from error


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """The bytes of a picture file. Raises OutputError for a picture that the format can't hold."""
    buffer = io.BytesIO()
    try:
        # Pillow's own `save`: a picture that embeds its recipe by itself would do it a second time.
        Image.Image.save(image, buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"a picture of {image.width}x{image.height} can't be written as {kind} ({error}); save as PNG"
        ) from error
    return buffer.getvalue()


def _as_undefined(exif: bytes, tag: int, count: int) -> bytes:
    """EXIF with a tag of the type "undefined", as the standard (CIPA DC-008, 4.6.5) has it; Pillow makes bytes "byte", which piexif reads as numbers."""
    byte, undefined = (struct.pack(">HHI", tag, kind, count) for kind in (1, 7))
    assert byte in exif, "Pillow writes big-endian entries of tag, type and count"
    return exif.replace(byte, undefined, 1)


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def _user_comment(value: object) -> str | None:
    """An EXIF user comment: 8 bytes that name its coding, then the text."""
    if not isinstance(value, bytes) or not value.startswith(USER_COMMENT_UNICODE):
        return None
    return value.removeprefix(USER_COMMENT_UNICODE).decode("utf-16-be", "replace")
