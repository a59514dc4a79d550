"""What the command says: notes and errors on stderr, tables on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# How the library says it, to people who write Python, and how it is done with the command.
CURES = (
    ('use .to("cpu")', "use --device cpu"),
    ("safety_checker=None turns it off", "--safety off turns it off"),
    (
        "safety_threshold is used only with safety='block', 'blur' or 'flag'",
        "--safety-threshold is used only with --safety block, blur or flag",
    ),
    ("safety_threshold is not used", "--safety-threshold is not used"),
    ("safety_threshold must", "--safety-threshold must"),
    ("decode in float32: pipe.vae.to(torch.float32)", "use --dtype float32"),
    ("; use float32 or bfloat16", "; use --dtype float32 or --dtype bfloat16"),
    ("num_inference_steps must", "--steps must"),
    ("guidance_scale must", "--guidance must"),
    ("clip_skip must", "--clip-skip must"),
    ("or ask to overwrite it", "or pass --overwrite"),
    ("load it first: load_lora_weights(…)", "add it with --lora FILE"),
    ("emphasis must", "--emphasis must"),
    ("pass a token of that account", "set HF_TOKEN to a token of that account"),
    ("pass a token that may read it", "set HF_TOKEN to a token that may read it"),
)
# A message says what a file holds; beyond this it says nothing more to a person.
LONGEST = 4000
LAST = 200
# Beyond this a cell of a table stands out to the right, rather than making every row as wide as itself.
WIDEST = 60


def say(line: str) -> None:
    """A line for the person, on stderr: whole, whatever the width of the terminal, and without markup."""
    from rich.console import Console

    Console(stderr=True).print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


def say_error(message: str) -> None:
    """Why the command could not do what was asked, in one line."""
    say(f"error: {in_options(_one_line(message))}")


def say_note(message: str) -> None:
    """Something the person should know, in one line."""
    say(f"note: {in_options(_one_line(message))}")


def in_options(message: str) -> str:
    """A message of the library with its cures in the words of the command: `--device cpu` for `.to("cpu")`."""
    for library, command in CURES:
        message = message.replace(library, command)
    return message


def _one_line(message: str) -> str:
    """A message on one line, of which nothing moves the cursor or goes on for pages, whatever a file had in it."""
    line = harmless(" ".join(message.split("\n")))
    # What is wrong stands at the beginning, and what the system said of it at the end.
    return line if len(line) <= LONGEST else f"{line[: LONGEST - LAST]}…{line[-LAST:]}"


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
        say_note(record.getMessage())


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows on stdout in aligned columns, two spaces apart. Control characters, which a file may hold, are written out."""
    rows = [tuple(map(harmless, row)) for row in rows]
    widths = [min(WIDEST, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def harmless(cell: str) -> str:
    """A text out of a file, fit for a terminal: control characters are written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cell)
