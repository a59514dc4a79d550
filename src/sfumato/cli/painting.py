"""Many pictures, each with options of its own, drawn by as few models as they name and in as few batches as they fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.cli.adapters import free
from sfumato.cli.drawing import PICTURES_PER_CALL, PICTURES_PER_CALL_ELSEWHERE, library_silent
from sfumato.cli.generate import choose_scheduler
from sfumato.cli.opening import judged_by_default, open_model
from sfumato.cli.terminal import say_note, warnings_said
from sfumato.cli.wanted import Opens, Wanted, names_of
from sfumato.engine import Event, StepDone
from sfumato.errors import EvaluationError, SfumatoError
from sfumato.pipeline import NSFWFilter, StableDiffusionPipeline, hires_fix
from sfumato.pipeline.together import draw_together
from sfumato.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A picture with its recipe, and what has to be said of it."""

    image: Image.Image
    recipe: Recipe
    notes: tuple[str, ...]


Outcome = Painted | SfumatoError
Progress = Callable[[int, float], None]
"""Hears how much of a picture is done, by its number: 0 to 1."""


@dataclass(slots=True)
class Painter:
    """Opens a model when a picture needs it, and keeps it until another is needed. `download`: whether a hub id may touch the network."""

    download: bool = True
    _opens: Opens | None = None
    _pipe: StableDiffusionPipeline | None = None
    _loras: dict[Path, str] = field(default_factory=dict[Path, str])

    def paint(self, wanted: Sequence[Wanted], progress: Progress) -> Iterator[tuple[int, Outcome]]:
        """Draw all of them; yields each with its number once it is there. Those of one model come together.

        What can't be drawn is an error in its place, and leaves the others alone.
        """
        by_model: dict[Opens, list[int]] = {}
        for number, one in enumerate(wanted):
            by_model.setdefault(one.opens, []).append(number)
        for opens, numbers in by_model.items():
            try:
                pipe = self.open(opens)
            except (SfumatoError, OSError) as error:
                why = error if isinstance(error, SfumatoError) else EvaluationError(f"the model can't be read: {error}")
                yield from ((number, why) for number in numbers)
                continue
            for group in _groups(numbers, wanted, pipe):
                yield from zip(group, self._draw(pipe, [wanted[n] for n in group], group, progress), strict=True)

    def open(self, opens: Opens) -> StableDiffusionPipeline:
        """The pipeline of a model, with its embeddings. Raises as `open_model`."""
        if self._pipe is None or opens != self._opens:
            self._pipe, self._opens, self._loras = None, None, {}  # the last one's memory is needed
            judge = NSFWFilter() if opens.safety_threshold is None else NSFWFilter(opens.safety_threshold)
            threshold = None if opens.safety is None else opens.safety_threshold
            pipe = open_model(
                opens.model, device=opens.device, dtype=opens.dtype, variant=opens.variant, safety=opens.safety,
                safety_threshold=threshold, memory=opens.memory, download=self.download,
            )  # fmt: skip
            pipe.set_engine(opens.engine or "eager")
            if opens.int8:
                pipe.quantize(scales=opens.int8_scales)
            if opens.safety is None:
                judged_by_default(pipe, judge, said=opens.safety_threshold is not None)
            if opens.vae_tiny is not None:
                pipe.load_tiny_vae(opens.vae_tiny)
            for path, word in opens.embeddings:
                words = pipe.load_textual_inversion(path, token=word)
                if word is None:
                    say_note(f"{path.name} is written {' or '.join(words)} in a prompt")
            self._pipe, self._opens = pipe, opens
        return self._pipe

    def call_of(self, pipe: StableDiffusionPipeline, wanted: Wanted) -> dict[str, Any]:
        """The options of the call that draws a picture; the LoRAs that it needs are loaded. Raises AdapterError, UnknownNameError …"""
        for lora in wanted.loras:
            if lora.path not in self._loras:
                name = free(lora.path.stem, {name: {} for name in self._loras.values()})
                with warnings_said():
                    pipe.load_lora_weights(lora.path, adapter_name=name)
                self._loras[lora.path] = name
        scheduler = choose_scheduler(pipe.scheduler, wanted.sampler, wanted.spacing, wanted.compat)
        return {**wanted.call, "scheduler": scheduler, "adapters": names_of(wanted.loras, self._loras)}

    def _draw(
        self, pipe: StableDiffusionPipeline, wanted: Sequence[Wanted], numbers: Sequence[int], progress: Progress
    ) -> list[Outcome]:
        outcomes: dict[int, Any] = {}
        calls: dict[int, dict[str, Any]] = {}
        for place, one in enumerate(wanted):
            try:
                calls[place] = self.call_of(pipe, one)
            except SfumatoError as error:
                outcomes[place] = error
        places = [place for place in calls if not wanted[place].second]

        def on_event(place: int, event: Event) -> None:
            if isinstance(event, StepDone) and event.steps:
                progress(numbers[places[place]], event.step / event.steps)

        with library_silent():
            if places:
                made = draw_together(pipe, [calls[place] for place in places], on_event)
                outcomes |= zip(places, made, strict=True)
            for place in calls:
                if wanted[place].second:
                    outcomes[place] = _twice(pipe, calls[place], wanted[place].second)
        return [_painted(outcomes[place]) for place in range(len(wanted))]


def _groups(numbers: Sequence[int], wanted: Sequence[Wanted], pipe: StableDiffusionPipeline) -> Iterator[Sequence[int]]:
    """As many as are drawn at once; one that is drawn twice is drawn alone."""
    size = PICTURES_PER_CALL.get(pipe.device.type, PICTURES_PER_CALL_ELSEWHERE)
    group: list[int] = []
    for number in numbers:
        if wanted[number].second:
            yield [number]
            continue
        group.append(number)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _twice(pipe: StableDiffusionPipeline, call: dict[str, Any], second: Any) -> Any:
    """A picture that is drawn, enlarged and drawn over; or the error."""
    own, options = pipe.scheduler, dict(call)
    pipe.scheduler = options.pop("scheduler")
    try:
        return hires_fix(pipe, options.pop("prompt"), **second, **options)
    except SfumatoError as error:
        return error
    finally:
        pipe.scheduler = own


def _painted(result: Any) -> Outcome:
    if isinstance(result, SfumatoError):
        return result
    if result.images[0] is None:
        return result.errors[0]
    notes = tuple(note.removeprefix("image 1: ") for note in result.notes)
    return Painted(result.images[0], result.recipes[0], notes)
