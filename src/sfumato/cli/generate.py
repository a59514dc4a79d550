"""`sfumato generate`: prompts in, pictures out."""

import logging
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.outputs import Outputs, Shot, plan_outputs
from sfumato.cli.parsing import parse_grid, parse_size
from sfumato.cli.terminal import DrawingProgress, say
from sfumato.errors import OptionError, PromptError

if TYPE_CHECKING:
    from PIL import Image

    from sfumato.engine.events import Event
    from sfumato.pipeline import StableDiffusionPipeline
    from sfumato.recipe import Recipe

# Some pictures are saved, others failed, which was said.
EXIT_SOME_FAILED = 2
# Seeds drawn here are short enough to be read out and typed again; any up to 2**64 - 1 can be given.
DRAWN_SEEDS = 2**32
# Pictures in one call. A CPU gains nothing from more, and the first is there sooner; an accelerator is filled by some.
PICTURES_PER_CALL = {"cpu": 1}
PICTURES_PER_CALL_ELSEWHERE = 8


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw; several prompts make one picture each.")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="Pictures for each prompt.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first picture; the next ones count up. Drawn and said if not given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. (default: the model's)")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt; 1 is no guidance. (default: the model's)")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, see `sfumato samplers`. (default: the model's)")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Which noise levels to visit: leading, trailing, linspace, karras, exponential.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Width and height in pixels. (default: the model's)")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep out of the picture.")] = None,
    eta: Annotated[float, typer.Option(help="DDIM's noise, 0 to 1.")] = 0.0,
    clip_skip: Annotated[int | None, typer.Option(help="Last layers of the text encoder to leave out.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder, or a hub id. (default: the bundled model)")] = None,
    variant: Annotated[str | None, typer.Option(help="Which weights of the model, such as fp16.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps. (default: an accelerator if there is one)")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16. (default: float32 on a CPU, float16 elsewhere)")
    ] = None,
    no_safety: Annotated[bool, typer.Option("--no-safety", help="Don't run the model's safety checker.")] = False,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="A file (.png, .webp, .jpg) or a folder. (default: outputs/)")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="RxC", help="Also save all pictures as one, in rows and columns.")
    ] = None,
    animate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also save the denoising as a .gif or .webp.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar; only notes, errors and paths.")
    ] = False,
) -> None:
    """Draw pictures from prompts. Prints the path of each on stdout."""
    shape = parse_grid(grid) if grid else None
    shots = plan_shots(prompts or [], number, seed, shape)
    width, height = parse_size(size) if size else (None, None)
    outputs = plan_outputs(shots, out, grid=shape is not None, animate=animate, overwrite=overwrite)
    if seed is None and not quiet:
        say(f"seed {shots[0].seed} (drawn at random; --seed {shots[0].seed} draws the same again)")

    with DrawingProgress(len(shots), quiet=quiet) as progress:
        from sfumato.cli.opening import open_model
        from sfumato.diffusion.samplers import find_sampler
        from sfumato.schedulers import scheduler_for

        if sampler is not None:
            find_sampler(sampler)  # a wrong name is said before a large model is opened
        pipe = open_model(model, device=device, dtype=dtype, variant=variant, safety=not no_safety)
        pipe.scheduler = scheduler_for(base=pipe.scheduler, sampler=sampler, spacing=spacing)
        settings = {
            "height": height,
            "width": width,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "negative_prompt": negative,
            "eta": eta,
            "clip_skip": clip_skip,
        }
        drawing = Drawing(pipe, shots, outputs, progress, overwrite=overwrite)
        drawing.run(settings)
        if outputs.grid and shape:
            save_grid(drawing.drawn, shape, outputs.grid, overwrite=overwrite)
            progress.saved(outputs.grid)
    if None in drawing.drawn:
        raise typer.Exit(EXIT_SOME_FAILED)


def plan_shots(prompts: Sequence[str], number: int, seed: int | None, grid: tuple[int, int] | None) -> list[Shot]:
    """Every picture to draw, in order, `number` a prompt; where only a grid is asked for, as many as fill it.

    Raises PromptError for no prompt or an empty one, OptionError for numbers that can't be, or pictures that don't fill the grid.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise PromptError('no prompt; say what to draw, such as: sfumato generate "a red apple, 3d style"')
    if number < 1:
        raise OptionError(f"-n is {number}; expected 1 or more pictures")
    if seed is not None and not 0 <= seed < 2**64:
        raise OptionError(f"the seed is {seed}; expected a whole number from 0 to {2**64 - 1}")
    if grid is not None:
        rows, columns = grid
        if number == 1 and rows * columns % len(prompts) == 0:
            number = rows * columns // len(prompts)
        if number * len(prompts) != rows * columns:
            raise OptionError(
                f"a grid of {rows}x{columns} takes {rows * columns} pictures, and {len(prompts)} prompts × {number} make "
                f"{number * len(prompts)}; change -n or --grid"
            )
    first = secrets.randbelow(DRAWN_SEEDS) if seed is None else seed
    wanted = [prompt for prompt in prompts for _ in range(number)]
    return [Shot(prompt=prompt, seed=(first + place) % 2**64) for place, prompt in enumerate(wanted)]


class Drawing:
    """Draws the shots some at a time and saves each picture as soon as it is there."""

    def __init__(
        self,
        pipe: "StableDiffusionPipeline",
        shots: Sequence[Shot],
        outputs: Outputs,
        progress: DrawingProgress,
        *,
        overwrite: bool,
    ) -> None:
        self.pipe = pipe
        self.shots = shots
        self.outputs = outputs
        self.progress = progress
        self.overwrite = overwrite
        # The pictures with their recipes; None for one that failed, whose error was said.
        self.drawn: list[tuple[Image.Image, Recipe] | None] = []
        self._said: set[str] = set()

    def run(self, settings: dict[str, Any]) -> None:
        """Draw and save all of them. Raises what the pipeline raises when none of a group could be made."""
        for first, group in self._groups():
            self._draw(first, group, settings)

    def _groups(self) -> Iterator[tuple[int, Sequence[Shot]]]:
        size = PICTURES_PER_CALL.get(self.pipe.device.type, PICTURES_PER_CALL_ELSEWHERE)
        for first in range(0, len(self.shots), size):
            yield first, self.shots[first : first + size]

    def _draw(self, first: int, group: Sequence[Shot], settings: dict[str, Any]) -> None:
        from sfumato.images import save_animation, save_image

        show = self.progress.listener(first, len(group))
        frames: dict[int, list[Image.Image]] = {place: [] for place in range(len(group))}

        def on_event(event: "Event") -> None:
            show(event)
            if self.outputs.animations:
                _film(event, frames)

        with _library_silent():
            result = self.pipe(
                [shot.prompt for shot in group],
                seeds=[shot.seed for shot in group],
                on_event=on_event,
                output_type="pil",
                **settings,
            )
        for note in result.notes:
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
                if flagged[place]:
                    # Its frames show what the safety checker keeps back.
                    self._note(f"{path} is not written, because the safety checker blocked its picture")
                    continue
                save_animation([*frames[place], image], path, overwrite=self.overwrite)
                self.progress.saved(path)

    def _note(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.progress.note(line)


def save_grid(
    drawn: "Sequence[tuple[Image.Image, Recipe] | None]", shape: tuple[int, int], path: Path, *, overwrite: bool
) -> None:
    """Save the pictures as one, row by row, with their recipes; white where one failed. Raises SizeError, OutputError."""
    from PIL import Image

    from sfumato.images import image_grid, save_image

    made = [pair for pair in drawn if pair is not None]
    assert made, "a run in which every picture failed has raised"
    blank = Image.new("RGB", made[0][0].size, "white")
    whole = [blank if pair is None else pair[0] for pair in drawn]
    save_image(image_grid(whole, *shape), path, [recipe for _, recipe in made], overwrite=overwrite)


def _film(event: "Event", frames: "dict[int, list[Image.Image]]") -> None:
    """Keep the picture of a step's x: nearly all noise at first. The last step is left out: its picture is the finished one."""
    from sfumato.engine.events import StepDone

    if isinstance(event, StepDone) and event.decode is not None and event.step < event.steps:
        # x is latents plus noise of std sigma; scaled to the variance of latents, it is what the decoder can show.
        frames[event.image].append(event.decode(event.x / (1 + event.sigma**2) ** 0.5))


@contextmanager
def _library_silent() -> Iterator[None]:
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
