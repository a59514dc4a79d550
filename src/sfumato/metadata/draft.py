"""Settings while they are being read: whatever is said there, each value is either good and kept, or named with what is wrong with it."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from sfumato.errors import MetadataError
from sfumato.metadata.settings import NamedLora, Omission, Program, Settings

LONGEST = 8_000_000
"""Characters of a text that are read; the largest graphs that people share have a tenth of it."""
LONGEST_SHOWN = 200
MOST_OMISSIONS = 500

NOT_KNOWN = "Sfumato does not know what it does"

_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**64 - 1),
    "steps": (1, 100_000),
    "guidance_scale": (0, 1e6),
    "guidance_rescale": (0, 1),
    "pag_scale": (0, 1e6),
    "pag_adaptive_scale": (0, 1e6),
    "eta": (0, 1),
    "width": (8, 2**20),
    "height": (8, 2**20),
    "clip_skip": (0, 1000),
    "subseed": (0, 2**64 - 1),
    "subseed_strength": (0, 1),
    "eta_noise_seed_delta": (-(2**62), 2**62),
    "noise_count": (1, 2**16),
}


def parsed_table(text: str, what: str) -> dict[str, Any]:
    """The JSON object of a text. Raises MetadataError for what is too long, nested too deeply or no such object."""
    if len(text) > LONGEST:
        raise MetadataError(f"{what} has {len(text):,} characters; up to {LONGEST:,} are read")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{what} is damaged: not valid JSON ({_brief(error)})") from error
    if not isinstance(value, dict):
        raise MetadataError(f"{what} is damaged: expected a JSON object, found {_brief(value)}")
    return cast("dict[str, Any]", value)


class Draft:
    """Settings that are being read from a picture of `program`."""

    def __init__(self, program: Program, **known: Any) -> None:
        self.values: dict[str, Any] = {"program": program, **known}
        self.loras: list[NamedLora] = []
        self._omissions: list[Omission] = []
        self._more = 0

    def omit(self, name: str, value: object, why: str) -> None:
        """Name something that is not carried over."""
        if len(self._omissions) < MOST_OMISSIONS:
            self._omissions.append(Omission(name=_brief(name), value=_brief(value), why=why))
        else:
            self._more += 1

    def whole(self, field: str, name: str, value: object) -> int | None:
        """Keep a whole number as `field`, given as one or in digits; the number, None where it is none or out of its range."""
        least, most = _LIMITS[field]
        number = whole(value)
        if number is None or not least <= number <= most:
            self.omit(name, value, f"it is no whole number from {least:g} to {most:g}")
            return None
        self.values[field] = number
        return number

    def number(self, field: str, name: str, value: object) -> float | None:
        """Keep a number as `field`; None where it is none or out of its range."""
        least, most = _LIMITS[field]
        found = number(value)
        if found is None or not least <= found <= most:
            self.omit(name, value, f"it is no number from {least:g} to {most:g}")
            return None
        self.values[field] = found
        return found

    def guidance(self, option: str, name: str, value: object) -> None:
        """Keep a number as an option of guidance; 0 asks for nothing."""
        found = number(value)
        least, most = _LIMITS[option]
        if found is None or not least <= found <= most:
            self.omit(name, value, f"it is no number from {least:g} to {most:g}")
        elif found:
            self.guide(option, found)

    def guide(self, option: str, value: object) -> None:
        """Keep an option of guidance."""
        self.values["guidance"] = {**self.values.get("guidance", {}), option: value}

    def text(self, field: str, name: str, value: object) -> str | None:
        """Keep a text as `field`; None where it is none."""
        if not isinstance(value, str):
            self.omit(name, value, "it is no text")
            return None
        self.values[field] = sound(value)
        return value

    def settings(self) -> Settings:
        """What was read."""
        more = [Omission(name="…", value=f"{self._more} more", why=NOT_KNOWN)] if self._more else []
        return Settings(**self.values, loras=tuple(self.loras), omissions=(*self._omissions, *more))


def whole(value: object) -> int | None:
    """A whole number, given as one, as a float without a fraction, or in digits; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value.strip()):
        return int(value)
    return None


def number(value: object) -> float | None:
    """A finite number, given as one or in digits; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})", value.strip()):
        value = float(value)
    if isinstance(value, int) and abs(value) < 2**64:
        value = float(value)
    return value if isinstance(value, float) and math.isfinite(value) else None


def table(value: object) -> Mapping[str, Any]:
    """The value where it is a table, an empty one otherwise."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def says_nothing(value: object) -> bool:
    """Whether a value is what a setting has that was not used: null, 0, false, an empty text, list or table."""
    return value is None or value in ("", 0, [], {})


def sound(text: str) -> str:
    """The text with question marks for what no text can hold: lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _brief(value: object) -> str:
    """A value in a line of at most some letters."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    text = sound(" ".join(text[: 2 * LONGEST_SHOWN].split()))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
