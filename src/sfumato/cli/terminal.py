"""What the command says: notes, errors and progress on stderr, results on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sfumato.engine.events import Event


def say(line: str) -> None:
    """A line for the person, on stderr: whole, whatever the width of the terminal, and without markup."""
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


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step when they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} steps/s" if speed >= 1 else f"{1 / speed:.1f} s/step", style="progress.data.speed")


class DrawingProgress:
    """One line on a terminal's stderr: which pictures of how many, the step, the rate, the time left. It is gone when done."""

    def __init__(self, pictures: int, *, quiet: bool) -> None:
        self._pictures = pictures
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[step]}"),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            # The paths that are printed to stdout must go there, not to the console of the bar.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("opening the model", total=None, step="")

    def __enter__(self) -> "DrawingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def listener(self, first: int, count: int) -> "Callable[[Event], None]":
        """What to call with the engine's events, while pictures `first` to `first + count - 1` are drawn (counted from 0)."""
        from sfumato.engine.events import StepDone

        which = f"picture {first + 1}" if count == 1 else f"pictures {first + 1}–{first + count}"
        description = f"{which} of {self._pictures}" if self._pictures > 1 else "drawing"
        latest: dict[int, int] = {}

        def listen(event: "Event") -> None:
            if isinstance(event, StepDone):
                latest[event.image] = event.step
                self._bar.update(
                    self._task,
                    description=description,
                    total=event.steps * self._pictures,
                    completed=event.steps * first + sum(latest.values()),
                    step=f"step {event.step}/{event.steps}",
                )

        return listen

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The bar is away while the block prints."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def saved(self, path: object) -> None:
        """Print the path of a finished file on stdout."""
        with self.paused():
            print(path, flush=True)

    def note(self, line: str) -> None:
        """Say something on stderr."""
        with self.paused():
            say(f"note: {line}")


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows on stdout in aligned columns, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
