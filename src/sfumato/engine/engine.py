"""The only denoising loop there is: drives many samplers at once and answers their questions in shared batches.

A pipeline call is this engine with one customer; a server is the same engine with many.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from sfumato.diffusion.conversation import Query, Step
from sfumato.engine.batching import batches
from sfumato.engine.denoiser import Denoiser
from sfumato.engine.evaluators import Evaluation
from sfumato.engine.events import Event, ImageDone, ImageFailed, StepDone
from sfumato.engine.frontier import evaluation_error
from sfumato.engine.job import Job, Run
from sfumato.engine.memory import Economy
from sfumato.errors import Cancelled, SfumatoError
from sfumato.models.unet import UNet

GPU_ROWS = 16
"""Rows in one batch on an accelerator: enough to fill one at 512 px, little enough for 8 GB in half precision."""


class Engine:
    """Makes images from jobs, any number at once, each with its own sampler, prompt, guidance and step count.

    On a CPU, where larger batches gain little, each image's rows are evaluated by themselves, so that the image is
    bit-identical whatever runs beside it. On an accelerator rows of different images share batches of up to GPU_ROWS.
    `max_rows` sets another limit for either; `exact=True` evaluates every image alone anywhere.

    `economy` says how memory is spared; where it runs out, an image is asked for again with the next measures. `evaluation` says what
    evaluates the network; unset, eager PyTorch. `decode` makes a preview picture of `channels h w` latents. Not thread-safe: one thread
    drives an engine, and may
    submit and cancel between events.
    """

    def __init__(
        self,
        unet: UNet,
        *,
        max_rows: int | None = None,
        exact: bool = False,
        decode: Callable[[Tensor], Any] | None = None,
        economy: Economy | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._economy = economy or Economy()
        self._denoise = Denoiser(unet, self._economy, evaluation)
        usual = 1 if unet.device.type == "cpu" else GPU_ROWS
        self._max_rows = 1 if exact else usual if max_rows is None else max_rows
        self._decode = decode
        self._runs: dict[int, Run] = {}
        self._cancelled: set[int] = set()
        self._tickets = 0

    def submit(self, job: Job) -> int:
        """Take a job; its first step begins with the next round. Returns the ticket its events carry."""
        ticket = self._tickets
        self._tickets += 1
        self._runs[ticket] = Run(ticket, job)
        return ticket

    def cancel(self, ticket: int) -> None:
        """Stop one image before the next round; an ImageFailed(Cancelled) follows. No-op if it has ended."""
        if ticket in self._runs:
            self._cancelled.add(ticket)

    def close(self) -> None:
        """Stop every image at once, without events."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self._cancelled.clear()

    def run(self) -> Iterator[Event]:
        """Work until every submitted job has ended, yielding what happens; jobs submitted meanwhile join the next round.

        In a round every run gets one answer. Runs that then finish a step are announced one after the other, and go on
        only when all have been, so that a listener can look at, and change, the whole round.
        """
        while self._runs:
            yield from self._start_and_cancel()
            asking = [run for run in self._runs.values() if isinstance(run.pending, Query)]
            for batch in batches(asking, self._max_rows):
                yield from self._answer(batch)
            yield from self._end_of_step([run for run in asking if run.ticket in self._runs])

    def _start_and_cancel(self) -> Iterator[Event]:
        while self._cancelled:
            run = self._runs.get(self._cancelled.pop())
            if run is not None:
                yield self._fail(run, Cancelled("stopped on request"))
        for run in [run for run in self._runs.values() if run.pending is None]:
            yield from self._advance(run, run.start)

    def _answer(self, batch: list[Run]) -> Iterator[Event]:
        answers, error = self._attempt(batch)
        if error is None:
            for run, answer in zip(batch, answers, strict=True):
                yield from self._advance(run, lambda run=run, answer=answer: run.answer(answer))
        elif len(batch) == 1:
            yield self._fail(batch[0], error)
        else:
            # One image's trouble must not end its neighbours': ask again one by one, and only the culprit fails.
            for run in batch:
                yield from self._answer([run])

    def _attempt(self, batch: list[Run]) -> tuple[list[Tensor], SfumatoError | None]:
        """The batch's answers, or why there are none. Returned, so that no traceback keeps the failed batch in memory."""
        try:
            return self._denoise(batch), None
        except SfumatoError as error:
            return [], error.with_traceback(None)
        except (RuntimeError, MemoryError) as error:
            failed = evaluation_error(f"step {batch[0].step + 1} in the U-Net", error)
            # Of several images' rows each is asked for alone first, which takes less than any measure.
            again = len(batch) == 1 and self._economy.down(error)
        return self._attempt(batch) if again else ([], failed)

    def _end_of_step(self, runs: list[Run]) -> Iterator[Event]:
        """Announce the steps that were finished, then resume each run with the x its event holds at the end."""
        offered: list[tuple[Run, StepDone]] = []
        for run in runs:
            if isinstance(run.pending, Step):
                event = self._step_done(run, run.pending)
                offered.append((run, event))
                yield event
        for run, event in offered:
            if run.ticket in self._runs:
                yield from self._advance(run, lambda run=run, event=event: run.answer(event.x))

    def _step_done(self, run: Run, step: Step) -> StepDone:
        return StepDone(
            image=run.ticket,
            step=run.step,
            steps=run.job.steps,
            sigma=step.sigma,
            x=step.x,
            denoised=step.denoised,
            decode=self._decode,
        )

    def _advance(self, run: Run, move: Callable[[], None]) -> Iterator[Event]:
        try:
            move()
        except SfumatoError as error:
            yield self._fail(run, error)
            return
        except (RuntimeError, MemoryError) as error:
            yield self._fail(run, evaluation_error(f"step {run.step + 1} in the sampler", error))
            return
        if run.result is not None:
            del self._runs[run.ticket]
            yield ImageDone(run.ticket, run.result, tuple(run.notes))

    def _fail(self, run: Run, error: SfumatoError) -> ImageFailed:
        run.close()
        del self._runs[run.ticket]
        return ImageFailed(run.ticket, error)
