"""Styles: words that are put around a prompt, kept in a table as AUTOMATIC1111's web UI keeps them (`styles.csv`).

Columns `name`, `prompt` and `negative_prompt`. Where a style's text says `{prompt}`, the prompt goes there; else the style follows it
after a comma. Source of the rules: the web UI's `styles.py`.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import CorruptFileError, MissingFileError, UnknownNameError

PLACE = "{prompt}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """Words for a prompt and words for its negative; either may be empty."""

    name: str
    prompt: str = ""
    negative: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a table by name. Raises MissingFileError, or CorruptFileError for what is no such table."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise MissingFileError(f"can't read {path}: {error.strerror or error}") from error
    return parse_styles(text, str(path))


def parse_styles(text: str, source: str = "the table") -> dict[str, Style]:
    """The styles that a table's text holds, by name; the last of two of one name. Raises CorruptFileError."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True))
    except csv.Error as error:
        raise CorruptFileError(f"{source} is not a table of comma-separated values: {error}") from error
    styles: dict[str, Style] = {}
    for row in rows:
        # Tables of 2022 call the prompt "text".
        prompt = row.get("prompt") if "prompt" in row else row.get("text")
        if "name" not in row or ("prompt" not in row and "text" not in row):
            raise CorruptFileError(f"{source} has no columns name and prompt; expected name,prompt,negative_prompt")
        if name := row["name"]:
            styles[name] = Style(name=name, prompt=prompt or "", negative=row.get("negative_prompt") or "")
    return styles


def apply_styles(prompt: str, negative: str, names: Iterable[str], styles: Mapping[str, Style]) -> tuple[str, str]:
    """The prompt and the negative prompt with styles around them, one after the other. Raises UnknownNameError."""
    for name in names:
        if name not in styles:
            raise UnknownNameError("style", name, styles or ("(the table is empty)",))
        prompt, negative = _around(prompt, styles[name].prompt), _around(negative, styles[name].negative)
    return prompt, negative


def _around(text: str, style: str) -> str:
    if PLACE in style:
        return style.replace(PLACE, text)
    return ", ".join(part for part in (text.strip(), style.strip()) if part)
