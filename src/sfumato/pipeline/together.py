"""Calls carried out: one by itself, or several through one engine, whose questions share batches whatever their settings.

A call that draws is a conversation too: it yields the work that it needs done, and is sent what came of it.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sfumato.engine import Engine, Event, ImageDone, ImageFailed, Job
from sfumato.errors import SfumatoError, UsageError
from sfumato.pipeline.drive import Bar, Round, drive

if TYPE_CHECKING:
    from sfumato.pipeline.output import StableDiffusionPipelineOutput
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

Results: TypeAlias = list[ImageDone | SfumatoError]
"""Each job as it ended, or the error that ended it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Work:
    """The jobs of one call, the engine that is to do them, and who looks on: see `drive`."""

    jobs: Sequence[Job]
    engine: Callable[[], Engine]
    bar: AbstractContextManager[Bar]
    on_round: Round | None
    on_event: Callable[[Event], None] | None
    interrupted: Callable[[], bool]


T = TypeVar("T")
Conversation: TypeAlias = Generator[Work, Results, T]


def alone(drawing: Conversation[T]) -> T:
    """Carry out one call by itself."""
    work = next(drawing)
    results = drive(
        work.engine(),
        work.jobs,
        bar=work.bar,
        on_round=work.on_round,
        on_event=work.on_event,
        interrupted=work.interrupted,
    )
    return _ended(drawing, results)


def draw_together(
    pipe: "StableDiffusionPipeline",
    calls: Sequence[Mapping[str, Any]],
    on_event: Callable[[int, Event], None] | None = None,
) -> "list[StableDiffusionPipelineOutput | SfumatoError]":
    """Draw several calls of a pipeline through one engine; for each what the call returns, or the error that it raises.

    A call holds the options of `pipe(…)`, with `seeds`, and may have a `scheduler` of its own; steps, samplers, sizes and pictures may all
    differ. `on_event` hears the engine's events with the number of the call. Each picture is what the call alone draws: to the bit on a CPU.
    Raises UsageError for calls that are not to be drawn so: without seeds, or with callbacks.
    """
    if len({bool(call.get("exact")) for call in calls}) > 1:
        raise UsageError("calls that are drawn together are all exact or none is; draw these apart")
    begun: list[_Begun | SfumatoError] = []
    pipe = copy(pipe)
    pipe._evaluation = pipe._new_evaluation()  # the calls share an engine, and so what is chosen
    for call in calls:
        if call.get("seeds") is None:
            raise UsageError("calls that are drawn together need seeds=[…] each; a generator is drawn from in turn")
        if listening := [name for name in ("on_event", "callback_on_step_end", "callback") if call.get(name)]:
            raise UsageError(f"calls that are drawn together take no {listening[0]} of their own; draw this one alone")
        try:
            begun.append(_begin(pipe, call))
        except SfumatoError as error:
            begun.append(error)
    working = [(number, one) for number, one in enumerate(begun) if isinstance(one, _Begun)]
    if not working:
        return [one for one in begun if isinstance(one, SfumatoError)]
    engine = working[0][1].work.engine()
    tickets = {number: [engine.submit(job) for job in one.work.jobs] for number, one in working}
    owners = {ticket: number for number, own in tickets.items() for ticket in own}
    outcomes: dict[int, ImageDone | SfumatoError] = {}
    try:
        for event in engine.run():
            if on_event is not None:
                on_event(owners[event.image], event)
            match event:
                case ImageDone(image):
                    outcomes[image] = event
                case ImageFailed(image, error):
                    outcomes[image] = error
                case _:
                    pass
    finally:
        engine.close()
    made: list[StableDiffusionPipelineOutput | SfumatoError] = []
    for number, one in enumerate(begun):
        if isinstance(one, SfumatoError):
            made.append(one)
            continue
        try:
            made.append(_ended(one.drawing, [outcomes[ticket] for ticket in tickets[number]])[0])
        except SfumatoError as error:
            made.append(error)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A call that waits for its work to be done."""

    drawing: Conversation[Any]
    work: Work


def _begin(pipe: "StableDiffusionPipeline", call: Mapping[str, Any]) -> _Begun:
    """A call up to its work: everything is checked, its prompts are encoded and its noise is drawn."""
    own = copy(pipe)
    options = dict(call)
    if (scheduler := options.pop("scheduler", None)) is not None:
        own.scheduler = scheduler
    own._progress = {"disable": True}
    own._carry_out = _waiting
    return own(**options)


def _waiting(drawing: Conversation[Any]) -> tuple[_Begun, tuple[()]]:
    return _Begun(drawing, next(drawing)), ()


def _ended(drawing: Conversation[T], results: Results) -> T:
    """What a call comes to once its work is done."""
    try:
        drawing.send(results)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a call asks for work once")
