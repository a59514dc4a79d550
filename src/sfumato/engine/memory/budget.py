"""How much memory a run may take, as people write it."""

import re
from dataclasses import dataclass

from sfumato.errors import OptionError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SMALLEST = "min"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([KMG]?I?B?)\s*", re.IGNORECASE)
LEAST, MOST = 10**6, 10**15


@dataclass(frozen=True, slots=True)
class Budget:
    """The most anonymous memory that the process may have at once, in bytes; None for as little as possible.

    Anonymous memory is the process's own. Pages of files that it has mapped, such as weights, are the system's to take back.
    """

    bytes: int | None

    def __str__(self) -> str:
        return "as little memory as possible" if self.bytes is None else in_words(self.bytes)


def parse_budget(value: object) -> Budget | None:
    """A budget of what people write: "2GB", "600 MB", "1.5GiB", "min", a number of bytes, or None for none. Raises OptionError."""
    if value is None or isinstance(value, Budget):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked(value, value)
    if isinstance(value, str) and value.strip().lower() == SMALLEST:
        return Budget(None)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    unit = None if match is None else match[2].upper()
    if match is None or unit not in UNITS | {"K": 1, "M": 1, "G": 1}:
        raise OptionError(f'memory is {value!r}; expected a size such as "2GB", "600MB" or "1.5GiB", or "{SMALLEST}"')
    return _checked(round(float(match[1]) * UNITS[f"{unit}B" if unit in ("K", "M", "G") else str(unit)]), value)


def _checked(size: int, value: object) -> Budget:
    if not LEAST <= size <= MOST:
        raise OptionError(f'memory is {value!r}, which is {size:,} bytes; expected from 1 MB, such as "2GB"')
    return Budget(size)


def in_words(size: int) -> str:
    """A number of bytes for a message: "850 MB", "2.1 GB"."""
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
