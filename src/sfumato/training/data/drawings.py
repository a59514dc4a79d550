"""Opening a package: its drawings by emoji code, as the bytes their artists made.

A code is the emoji's code points in lower-case hexadecimal joined by `-`, without variation selectors (`fe0f`): "1f34e" is the red apple.
"""

import contextlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sfumato.errors import DataError

_SKIN_TONES = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})
_MARKETING_SIGNS = frozenset({"2122", "ae", "a9"})  # trade mark, registered, copyright


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing of one emoji: its code, and a file's bytes."""

    code: str
    format: Literal["svg", "webp"]
    body: bytes


@dataclass(frozen=True, slots=True)
class Name:
    """What the Unicode CLDR calls an emoji, and the group it files it under."""

    name: str
    group: str


def normalise_code(code: str) -> str:
    """The code without variation selectors and leading zeros, lower case: "0023-fe0f-20e3" → "23-20e3"."""
    return "-".join(part.lstrip("0") for part in code.lower().split("-") if part != "fe0f")


def is_allowed(code: str, names: dict[str, Name]) -> bool:
    """Whether a drawing may be learned from: a named emoji, no skin-tone variant, no flag, no trade-mark sign."""
    return (
        code in names
        and names[code].group != "Flags"
        and not _SKIN_TONES.intersection(code.split("-"))
        and code not in _MARKETING_SIGNS
    )


def _json_member(archive: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    try:
        member = archive.extractfile(f"package/{name}")
    except KeyError:
        member = None
    if member is None:
        raise DataError(f"{path} holds no {name}; it is not the package that sources.py describes.")
    return json.load(member)


def read_names(path: Path) -> dict[str, Name]:
    """Every emoji's CLDR name and group by code, from the `unicode-emoji-json` archive.

    Raises DataError when the archive is damaged or not that package.
    """
    with reading(path), tarfile.open(path) as archive:
        table = _json_member(archive, "data-by-emoji.json", path)
        return {
            normalise_code("-".join(f"{ord(c):x}" for c in emoji)): Name(entry["name"], entry["group"])
            for emoji, entry in table.items()
        }


def read_codes(path: Path) -> dict[str, str]:
    """A package's own table: the name of its drawing by code.

    Raises DataError when the archive is damaged or has no such table.
    """
    with reading(path), tarfile.open(path) as archive:
        table = _json_member(archive, "chars.json", path)
        return {normalise_code(code): name for code, name in sorted(table.items())}


def read_icons(path: Path) -> dict[str, bytes]:
    """Every drawing of an iconify package by name, as SVG, in order of name.

    Raises DataError when the archive is damaged or not such a package.
    """
    with reading(path), tarfile.open(path) as archive:
        icons = _json_member(archive, "icons.json", path)
        width, height = icons.get("width", 16), icons.get("height", 16)
        return {
            name: _svg(icon, width, height) for name, icon in sorted(icons["icons"].items()) if not icon.get("hidden")
        }


def _svg(icon: dict[str, Any], width: float, height: float) -> bytes:
    w, h = icon.get("width", width), icon.get("height", height)
    left, top = icon.get("left", 0), icon.get("top", 0)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{w}" height="{h}" viewBox="{left} {top} {w} {h}">{icon["body"]}</svg>'
    ).encode()


def read_webps(path: Path) -> dict[str, bytes]:
    """Every WebP file of an archive by the emoji code that it is called by.

    Raises DataError when the archive is damaged.
    """
    found: dict[str, bytes] = {}
    with reading(path), tarfile.open(path) as archive:
        for member in archive:
            file = PurePosixPath(member.name)
            if file.suffix == ".webp" and (content := archive.extractfile(member)) is not None:
                found[normalise_code(file.stem)] = content.read()
    return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong in reading a damaged archive becomes a DataError."""
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}); delete the file and build again.") from error
