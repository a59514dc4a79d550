"""A picture's settings, whichever program left them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from PIL import ExifTags, Image

from sfumato.errors import MetadataError
from sfumato.images import opened
from sfumato.metadata.a1111 import read_a1111
from sfumato.metadata.comfyui import read_comfyui
from sfumato.metadata.draft import parsed_table
from sfumato.metadata.invokeai import read_invokeai, read_old_invokeai
from sfumato.metadata.novelai import read_novelai
from sfumato.metadata.settings import Settings
from sfumato.metadata.stealth import hidden_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """The texts in a picture file: by their names, and those hidden in its pixels."""

    named: Mapping[str, str]
    hidden: str | None = None


def read_settings(path: Path) -> Settings:
    """What another program says that a picture was made from; its size is the picture's where nothing else says one.

    Raises ImageError for what is no picture, MetadataError (one of them) where there is nothing of a known program, or it is damaged.
    """
    settings = find_settings(path)
    if settings is None:
        raise MetadataError(f"{path} holds no settings of AUTOMATIC1111's web UI, ComfyUI, InvokeAI or NovelAI")
    return settings


def find_settings(path: Path) -> Settings | None:
    """The same; None where there is nothing of a known program."""
    with opened(path) as image:
        texts, (width, height) = texts_of(image), image.size
    settings = settings_of(texts)
    if settings is None or (settings.width and settings.height):
        return settings
    return replace(settings, width=settings.width or width, height=settings.height or height)


def settings_of(texts: Texts) -> Settings | None:
    """The settings in a picture's texts; None where none of them is a known program's. Raises MetadataError for damaged ones."""
    named = texts.named
    if "invokeai_metadata" in named:
        return read_invokeai(named["invokeai_metadata"])
    if "sd-metadata" in named:
        return read_old_invokeai(named["sd-metadata"])
    if named.get("Software") == "NovelAI" and "Comment" in named:
        return read_novelai(named)
    failure: MetadataError | None = None
    if "prompt" in named:
        try:
            return read_comfyui(named["prompt"])
        except MetadataError as error:
            failure = error  # a node may have left the web UI's text beside it
    if "parameters" in named:
        return _parameters(named["parameters"])
    if failure is not None:
        raise failure
    return None if texts.hidden is None else _hidden(texts.hidden)


def texts_of(image: Image.Image) -> Texts:
    """All texts that an open picture carries: a PNG's chunks, the EXIF of the others, what is hidden in the pixels."""
    image.load()  # chunks may also stand after the pixels
    info = cast("Mapping[object, object]", image.info)
    named = {key: value for key, value in info.items() if isinstance(key, str) and isinstance(value, str)}
    exif = image.getexif()
    comment = user_comment(exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment))
    if comment is not None:
        named.setdefault("parameters", comment)
    # ComfyUI puts its graph into a WebP as the camera's model, and the editor's as its maker.
    camera: object = exif.get(ExifTags.Base.Model)
    if isinstance(camera, str) and camera.startswith("prompt:"):
        named.setdefault("prompt", camera.removeprefix("prompt:"))
    known = {"parameters", "prompt", "invokeai_metadata", "sd-metadata", "Comment"} & named.keys()
    return Texts(named=named, hidden=None if known else hidden_text(image))


def user_comment(value: object) -> str | None:
    """An EXIF user comment: eight bytes that name its coding, then the text. Source: CIPA DC-008, 4.6.5."""
    if isinstance(value, str):
        return value or None
    if not isinstance(value, bytes):
        return None
    coding, text = value[:8], value[8:]
    if coding == b"UNICODE\0":
        # The standard leaves the order of the bytes to the file; most texts have more zeros on one side.
        little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace").lstrip("\ufeff") or None
    if coding in (b"ASCII\0\0\0", b"\0" * 8):
        return text.decode("utf-8", "replace").rstrip("\0") or None
    return value.decode("utf-8", "replace").rstrip("\0") or None


def _parameters(text: str) -> Settings:
    if text.lstrip().startswith("{"):
        try:
            parsed_table(text, "")
        except MetadataError:
            return read_a1111(text)  # a prompt may begin so
        raise MetadataError("the picture's parameters are JSON, as Fooocus and SwarmUI write them; these are not read")
    return read_a1111(text)


def _hidden(text: str) -> Settings:
    """NovelAI hides its chunks as a JSON object, others the web UI's text."""
    if not text.lstrip().startswith("{"):
        return read_a1111(text)
    chunks = parsed_table(text, "the text in the picture's pixels")
    return read_novelai({key: value for key, value in chunks.items() if isinstance(value, str)})
