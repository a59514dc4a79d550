"""What the command says: notes and errors on stderr, tables on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    """A line for the person, on stderr: whole, whatever the width of the terminal, and without markup."""
    from rich.console import Console

    Console(stderr=True).print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


@contextmanager
def warnings_said() -> Iterator[None]:
    """While a model is opened, what the library warns of is said as notes."""
    logger = logging.getLogger("sfumato")
    handler = _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {record.getMessage()}")


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows on stdout in aligned columns, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
