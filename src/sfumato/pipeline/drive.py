"""Drives the engine for one pipeline call: progress, callbacks, interruption, and what became of each image."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from sfumato.engine import Engine, Event, ImageDone, ImageFailed, Job, StepDone
from sfumato.errors import SfumatoError


class Bar(Protocol):
    """The part of a progress bar that is needed here."""

    def update(self, n: int = 1) -> object:
        """Advance by n steps."""
        ...


class Round(Protocol):
    """Called when every image still under way has finished the same step; may put other tensors into the events' x."""

    def __call__(self, events: Sequence[StepDone]) -> None:
        """React to one finished step of all the images."""
        ...


def drive(
    engine: Engine,
    jobs: Sequence[Job],
    *,
    bar: AbstractContextManager[Bar],
    on_round: Round | None = None,
    on_event: Callable[[Event], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[ImageDone | SfumatoError]:
    """Make one image a job and return, in their order, each image as it ended, or the error that ended it.

    All jobs take the same number of steps, so they finish them together, unless their samplers find out on the way how many they
    need: then each image's step is a round of its own, and the bar counts those of the image that is furthest. When `interrupted` turns true the images are
    left as the last step denoised them. Any exception (a keyboard interrupt, one of the caller's) ends every sampler.
    """
    outcomes: dict[int, ImageDone | SfumatoError] = {}
    tickets = [engine.submit(job) for job in jobs]
    finished: list[StepDone] = []
    latest: dict[int, Tensor] = {}
    furthest = 0
    try:
        with bar as progress:
            for event in engine.run():
                if on_event is not None:
                    on_event(event)
                match event:
                    case ImageDone(image):
                        outcomes[image] = event
                    case ImageFailed(image, error):
                        outcomes[image] = error
                    case StepDone():
                        finished.append(event)
                        latest[event.image] = event.denoised
                alone = len(finished) == 1 and finished[0].steps is None
                if alone or len(finished) == len(tickets) - len(outcomes) > 0:
                    if on_round is not None:
                        on_round(finished)
                    if finished[0].step > furthest:
                        furthest = finished[0].step
                        progress.update(1)
                    finished = []
                    if interrupted():
                        break
    finally:
        engine.close()
    return [outcomes[ticket] if ticket in outcomes else ImageDone(ticket, latest[ticket]) for ticket in tickets]
