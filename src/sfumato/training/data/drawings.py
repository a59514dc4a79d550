"""Opening a package: its drawings by emoji code, as the bytes their artists made.

A code is the emoji's code points in lower-case hexadecimal joined by `-`, without variation selectors (`fe0f`): "1f34e" is the red apple.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sfumato.errors import DataError
from sfumato.training.data.sources import Source

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


def _json_member(archive: tarfile.TarFile, name: str, path: Path) -> dict:
    try:
        member = archive.extractfile(f"package/{name}")
    except KeyError:
        member = None
    if member is None:
        raise DataError(f"{path} holds no {name}; it is not the package that sources.py describes.")
    return json.load(member)


def read_names(path: Path) -> dict[str, Name]:
    """Every emoji's CLDR name and group by code, from the `unicode-emoji-json` archive."""
    with tarfile.open(path) as archive:
        table = _json_member(archive, "data-by-emoji.json", path)
    return {
        normalise_code("-".join(f"{ord(c):x}" for c in emoji)): Name(entry["name"], entry["group"])
        for emoji, entry in table.items()
    }


def _read_iconify(path: Path, codes: Path) -> dict[str, Drawing]:
    with tarfile.open(path) as archive:
        icons = _json_member(archive, "icons.json", path)
    with tarfile.open(codes) as archive:
        names_by_code = _json_member(archive, "chars.json", codes)
    width, height = icons.get("width", 16), icons.get("height", 16)
    drawings: dict[str, Drawing] = {}
    for raw_code in sorted(names_by_code):
        icon = icons["icons"].get(names_by_code[raw_code])
        code = normalise_code(raw_code)
        if icon is None or code in drawings:
            continue  # an alias of a drawing that is there under its own name
        w, h = icon.get("width", width), icon.get("height", height)
        left, top = icon.get("left", 0), icon.get("top", 0)
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{w}" height="{h}" viewBox="{left} {top} {w} {h}">{icon["body"]}</svg>'
        )
        drawings[code] = Drawing(code, "svg", svg.encode())
    return drawings


def _read_webp(path: Path) -> dict[str, Drawing]:
    drawings: dict[str, Drawing] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = PurePosixPath(member.name)
            if file.suffix == ".webp" and (content := archive.extractfile(member)) is not None:
                code = normalise_code(file.stem)
                drawings[code] = Drawing(code, "webp", content.read())
    return drawings


def read_drawings(source: Source, path: Path, codes: Path | None = None) -> dict[str, Drawing]:
    """Every drawing of an art package by code, in order of code; one drawing a code. `codes` is the archive that has its table of codes.

    Raises DataError when the archive is damaged or not such a package.
    """
    try:
        found = _read_iconify(path, codes or path) if source.kind == "iconify" else _read_webp(path)
    except (tarfile.TarError, EOFError, json.JSONDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}); delete the file and build again.") from error
    if not found:
        raise DataError(f"{path} holds no drawings; it is not the package that sources.py describes.")
    return dict(sorted(found.items()))
