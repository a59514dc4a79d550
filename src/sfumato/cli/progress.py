"""The progress bar of a run, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sfumato.cli.terminal import say_note

if TYPE_CHECKING:
    from sfumato.engine import Event


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
            TimeRemainingColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            # The paths that are printed to stdout must go there, not to the console of the bar.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=quiet or not console.is_interactive,
        )
        self._task = self._bar.add_task("opening the model", total=None, step="", left="")

    def __enter__(self) -> "DrawingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def listener(self, first: int, count: int) -> Callable[["Event"], None]:
        """What to call with the engine's events, while pictures `first` to `first + count - 1` are drawn (counted from 0)."""
        from sfumato.engine import StepDone  # torch, which the bar is there to bridge

        which = f"picture {first + 1}" if count == 1 else f"pictures {first + 1}–{first + count}"
        description = f"{which} of {self._pictures}" if self._pictures > 1 else "drawing"
        latest: dict[int, int] = {}

        def listen(event: "Event") -> None:
            if isinstance(event, StepDone):
                latest[event.image] = event.step
                if event.steps is None:  # as many as it needs
                    total, completed, step, left = None, 0, f"step {event.step}", ""
                else:
                    total, completed = event.steps * self._pictures, event.steps * first + sum(latest.values())
                    step, left = f"step {event.step}/{event.steps}", "left"
                self._bar.update(
                    self._task, description=description, total=total, completed=completed, step=step, left=left
                )

        return listen

    def shares(self) -> Callable[[int, float], None]:
        """What to call with a picture's number, from 0, and how much of it is done: for pictures that differ in their steps."""
        done: dict[int, float] = {}

        def listen(number: int, share: float) -> None:
            done[number] = share
            drawn = sum(one >= 1 for one in done.values())
            self._bar.update(
                self._task, description=f"{drawn} of {self._pictures} drawn", total=self._pictures,
                completed=sum(done.values()), step="", left="left",
            )  # fmt: skip

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
            say_note(line)
