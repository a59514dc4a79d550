"""The work of `sfumato generate`: the shots drawn some at a time, each picture saved as soon as it is there."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.cli.outputs import Outputs, Shot
from sfumato.cli.progress import DrawingProgress
from sfumato.engine import Event, StepDone
from sfumato.errors import EvaluationError, NumericalError
from sfumato.images import image_grid, save_animation, save_image
from sfumato.pipeline import StableDiffusionPipeline, hires_fix
from sfumato.pipeline.sparing import MEMORY_NOTE, memory_note
from sfumato.recipe import Emphasis, Recipe
from sfumato.text.prompts import parse_prompt

# Pictures in one call. A CPU gains nothing from more, and the first is there sooner; an accelerator is filled by some.
PICTURES_PER_CALL = {"cpu": 1}
PICTURES_PER_CALL_ELSEWHERE = 8


class Drawing:
    """Draws the shots some at a time and saves each picture as soon as it is there."""

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        shots: Sequence[Shot],
        outputs: Outputs,
        progress: DrawingProgress,
        *,
        overwrite: bool,
        second: Mapping[str, Any] | None = None,
    ) -> None:
        self.pipe = pipe
        # Drawn twice where there are settings of a second pass.
        self._draws: Callable[..., Any] = partial(hires_fix, pipe, **second) if second else pipe
        self.shots = shots
        self.outputs = outputs
        self.progress = progress
        self.overwrite = overwrite
        # The pictures with their recipes; None for one that failed, whose error was said.
        self.drawn: list[tuple[Image.Image, Recipe] | None] = []
        self._said: set[str] = set()

    def run(self, settings: dict[str, Any]) -> None:
        """Draw and save all of them. One that fails leaves the others alone; raises EvaluationError when none could be made, or the error of the only one."""
        for first, group in self._groups(settings["emphasis"]):
            try:
                self._draw(first, group, settings)
            except (NumericalError, EvaluationError) as error:  # of the whole group
                if len(self.shots) == 1:
                    raise
                self.drawn += [None] * len(group)
                which = f"picture {first + 1}" if len(group) == 1 else f"pictures {first + 1}–{first + len(group)}"
                self._note(f"{which} failed: {error}")
        if not any(self.drawn):
            raise EvaluationError(f"none of the {len(self.shots)} pictures could be made; the notes above say why")

    def foretell(self, width: int | None, height: int | None, *, image: bool) -> None:
        """Say before the first picture what each will take in memory, and what is done for that. Raises OptionError where nothing suffices."""
        own = self.pipe.unet.config.sample_size * self.pipe.vae.scale
        usual = self.pipe.defaults
        measures, prediction = self.pipe.predict_memory(
            height or usual.get("height", own), width or usual.get("width", own), image=image
        )
        assert self.pipe.memory is not None, "a budget was given"
        self._note(memory_note(self.pipe.memory, measures, prediction))

    def _groups(self, emphasis: Emphasis) -> Iterator[tuple[int, Sequence[Shot]]]:
        """Neighbours that one call can draw: not too many, and only such as call the same adapters."""
        size = PICTURES_PER_CALL.get(self.pipe.device.type, PICTURES_PER_CALL_ELSEWHERE)
        first = 0
        for _, alike in groupby(self.shots, key=lambda shot: parse_prompt(shot.prompt, emphasis).networks):
            shots = list(alike)
            for start in range(0, len(shots), size):
                group = shots[start : start + size]
                yield first, group
                first += len(group)

    @property
    def failed(self) -> bool:
        """Whether some pictures could not be made."""
        return None in self.drawn

    def save_grid(self, shape: tuple[int, int], path: Path) -> None:
        """Save the pictures as one, in rows and columns, with their recipes; white where one failed. Raises OutputError."""
        made = [pair for pair in self.drawn if pair is not None]
        assert made, "a run in which every picture failed has raised"
        blank = Image.new("RGB", made[0][0].size, "white")
        whole = [blank if pair is None else pair[0] for pair in self.drawn]
        save_image(image_grid(whole, *shape), path, [recipe for _, recipe in made], overwrite=self.overwrite)
        self.progress.saved(path)

    def _draw(self, first: int, group: Sequence[Shot], settings: dict[str, Any]) -> None:
        show = self.progress.listener(first, len(group))
        frames: dict[int, list[Image.Image]] = {place: [] for place in range(len(group))}

        def on_event(event: Event) -> None:
            show(event)
            if self.outputs.animations:
                _film(event, frames)

        with library_silent():
            result = self._draws(
                [shot.prompt for shot in group],
                seeds=[shot.seed for shot in group],
                subseed=None if group[0].variation is None else [shot.variation for shot in group],
                on_event=on_event,
                output_type="pil",
                **settings,
            )
        for note in result.notes:
            if note.startswith(MEMORY_NOTE):
                continue  # it was said before the run; the base has changed a little since
            self._note(_renumbered(note, first, of=len(self.shots)))
        recipes = result.recipes
        flagged = result.nsfw_content_detected or [False] * len(group)
        for place, image in enumerate(result.images):
            self.drawn.append(None if image is None else (image, recipes[place]))
            if image is None:
                continue
            path = self.outputs.pictures[first + place]
            save_image(image, path, recipes[place], overwrite=self.overwrite)
            self.progress.saved(path)
            if self.outputs.animations:
                path = self.outputs.animations[first + place]
                if flagged[place] and self.pipe.safety_mode != "flag":
                    # Its frames show what is kept back of the picture.
                    self._note(f"{path} is not written, because its picture is not shown as it was drawn")
                    continue
                save_animation([*frames[place], image], path, overwrite=self.overwrite)
                self.progress.saved(path)

    def _note(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.progress.note(line)


def _film(event: Event, frames: dict[int, list[Image.Image]]) -> None:
    """Keep the picture of a step's x: nearly all noise at first. The last step is left out: its picture is the finished one."""
    if isinstance(event, StepDone) and event.decode is not None and event.step != event.steps:
        # x is latents plus noise of std sigma; scaled to the variance of latents, it is what the decoder can show.
        frames[event.image].append(event.decode(event.x / (1 + event.sigma**2) ** 0.5))


@contextmanager
def library_silent() -> Iterator[None]:
    """While pictures are drawn, the library's log is quiet: the result holds the same notes, and they are said once."""
    logger = logging.getLogger("sfumato")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _renumbered(note: str, first: int, *, of: int) -> str:
    """A note on "image 1" of a call, as it is counted in the whole run; without a number where there is but one picture."""
    match = re.match(r"image (\d+):? ", note)
    if match is None:
        return note
    rest = note[match.end() :]
    return rest if of == 1 else f"picture {first + int(match[1])}: {rest}"
