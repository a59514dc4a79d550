"""The options of one JSON config, taken out one by one with their types checked, so that none goes unread."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

from sfumato.errors import ConfigError, CorruptFileError, MissingFileError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises MissingFileError if there is no such file, CorruptFileError if it is not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(f"{path} is missing; a model in the diffusers layout has it") from None
    except OSError as error:
        raise MissingFileError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is not JSON ({error}); download the model again") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path} holds a {type(value).__name__}; expected a JSON object")
    return cast("dict[str, Any]", value)


MOST = 1_000_000
"""The largest size that a config may ask for: no network is near it, and a hostile config must not take the machine."""
MOST_LAYERS = 256
MOST_BLOCKS = 16
MOST_LEVELS = 8


class Options:
    """A config's values by name. What is taken is checked; what is left over at the end is refused unless it is off."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._left = dict(values)

    def integer(self, name: str, default: int | None = None, *, least: int = 1, most: int = MOST) -> int:
        """Take a whole number."""
        value = self._take(name, default)
        if not is_integer(value) or not least <= value <= most:
            raise self.wrong(name, value, f"a whole number from {least} to {most:,}")
        return value

    def integer_or_none(self, name: str) -> int | None:
        """Take a whole number from 1, or null, which is also what stands for an absent one."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return self.integer(name)

    def number(self, name: str, default: float | None = None) -> float:
        """Take a finite number above 0."""
        value = self._take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
            raise self.wrong(name, value, "a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false; null is false, as in the classes that read such configs."""
        value = self._left.pop(name, default)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """Take one of some names."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, value, " or ".join(choices))
        return value

    def choice_or_none(self, name: str, choices: tuple[str, ...]) -> str | None:
        """Take one of some names, or null, which is also what stands for an absent one."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return self.choice(name, choices)

    def flags(self, name: str, levels: int) -> tuple[bool, ...]:
        """Take true or false for all levels, or a list of one for each; absent, false."""
        if not isinstance(self._left.get(name), list):
            return (self.flag(name, False),) * levels
        value: object = self._left.pop(name)
        flags = tuple(item for item in items(value) if isinstance(item, bool))
        if not len(flags) == len(items(value)) == levels:
            raise self.wrong(name, value, f"true or false, or a list of {levels}, one for each level")
        return flags

    def integers(self, name: str, default: list[int] | None = None, *, most: int = MOST) -> tuple[int, ...]:
        """Take a list of whole numbers from 1."""
        value = self._take(name, default)
        numbers = tuple(item for item in items(value) if is_integer(item) and 1 <= item <= most)
        if not 1 <= len(numbers) == len(items(value)) <= MOST_LEVELS:
            raise self.wrong(name, value, f"a list of 1 to {MOST_LEVELS} whole numbers from 1 to {most:,}")
        return numbers

    def names(self, name: str, choices: tuple[str, ...], default: list[str] | None = None) -> tuple[str, ...]:
        """Take a list of some names."""
        value = self._take(name, default)
        names = tuple(item for item in items(value) if isinstance(item, str) and item in choices)
        if not 1 <= len(names) == len(items(value)):
            raise self.wrong(name, value, f"a list of {' and '.join(choices)}")
        return names

    def per_level(self, name: str, levels: int, default: int | None = None, *, most: int = MOST) -> tuple[int, ...]:
        """Take a whole number for all levels, or a list of one for each."""
        if not isinstance(self._left.get(name), list):
            return (self.integer(name, default, most=most),) * levels
        value = self.integers(name, most=most)
        if len(value) != levels:
            raise self.wrong(name, value, f"{levels} numbers, one for each level")
        return value

    def same_on_every_level(self, name: str, default: int | None = None, *, most: int = MOST) -> int:
        """Take a whole number that a config may also give as a list of equals."""
        if not isinstance(self._left.get(name), list):
            return self.integer(name, default, most=most)
        value = self.integers(name, most=most)
        if len(set(value)) > 1:
            raise self.wrong(name, value, "the same number on every level, all that Sfumato implements")
        return value[0]

    def sides(self, name: str, default: int | None = None) -> int:
        """Take the side of a square, as one number or as two equals; null means the default."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
        return self.same_on_every_level(name, default)

    def fixed(self, values: Mapping[str, Any]) -> None:
        """Take options that Sfumato implements at one value only; a list of that value is the same, and null is false."""
        for name, only in values.items():
            value = self._left.pop(name, only)
            given = items(value) or [value]
            if any(item != only and not (item is None and only is False) for item in given):
                raise self.wrong(name, value, f"{json.dumps(only)}, the only value that Sfumato implements")

    def ignore(self, *names: str) -> None:
        """Take options that change no result."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse what is left: options unknown here that are set to anything but null or false, or begin with an underscore."""
        for name, value in self._left.items():
            if not name.startswith("_") and value not in (None, False):
                raise self.wrong(name, value, "it to be off: Sfumato does not know this option, nor what it changes")

    def wrong(self, name: str, value: object, expected: str) -> ConfigError:
        """The error for a value that can't be used."""
        shown = json.dumps(value, default=str)
        # What a config calls an option may be anything, and one known to us is plain.
        name = name if name.isprintable() and len(name) <= 80 else ascii(name[:80])
        return ConfigError(
            f"{self.where}: {name} is {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {expected}"
        )

    def _take(self, name: str, default: object) -> object:
        value = self._left.pop(name, default)
        if value is None:
            raise ConfigError(
                f"{self.where}: {name} is not given, and has no default; is this the config of another model?"
            )
        return value


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def items(value: object) -> list[object]:
    """The items of a JSON list; none if it is not one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def check_heads(where: str, width: int, heads: int) -> None:
    """Raise ConfigError unless the heads divide the width."""
    if width % heads:
        raise ConfigError(
            f"{where}: {heads} attention heads do not divide a width of {width}; expected a divisor of it"
        )
