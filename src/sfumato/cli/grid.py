"""`sfumato grid`: pictures side by side that differ in what the axes say, or in which parts of a prompt they have."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from sfumato.cli.axes import take_axes
from sfumato.cli.fields import OF_A_RUN, fields
from sfumato.cli.generate import EXIT_SOME_FAILED, generate
from sfumato.cli.grid_plan import GridPlan, Place, plan_again, plan_grid
from sfumato.cli.outputs import DEFAULT_FOLDER, slug
from sfumato.cli.terminal import say
from sfumato.errors import OptionError
from sfumato.files import check_writable, next_free_path

SUFFIXES = (".png", ".html")


def grid(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="AXIS… PROMPT",
            help='Axes such as "x=steps:10,20,50", "y=sampler:Euler,DPM++ 2M", z=…, and the prompt.',
        ),
    ] = None,
    matrix: Annotated[
        str | None,
        typer.Option(metavar="PROMPT", help='Every combination of the parts of "a cat|in a hat|at night".'),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--replay", metavar="SHEET", help="Draw the grid of a sheet again; what else is given goes before."
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also save each picture by itself, as soon as it is there.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The sheet: .png, or .html with the pictures in it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar; only notes, errors and paths.")
    ] = False,
    **options: Any,
) -> None:
    """Draw a grid of pictures as one sheet. An axis is any option of `sfumato generate`, with its values; the others are shared.

    Prints the path of the sheet. Exits with 2 if some pictures failed; they are drawn as what went wrong.
    """
    said = {name: value for name, value in options.items() if value != fields()[name].default}
    axes, prompts = take_axes(words or [])
    plan = plan_grid(said, axes, prompts, matrix) if again is None else plan_again(again, said, axes, prompts, matrix)
    places = list(plan.places())
    pages = 1 + places[-1].z
    paths = _sheet_paths(out, plan, pages, overwrite=overwrite)
    kept = (
        [] if keep is None else [keep / f"{_stem(number, place, plan)}.png" for number, place in enumerate(places, 1)]
    )
    for path in (*paths, *kept):
        check_writable(path, overwrite=overwrite)
    from sfumato.cli.progress import DrawingProgress

    with DrawingProgress(len(places), quiet=quiet) as progress:
        from sfumato.cli.grid_sheets import draw_grid  # torch comes with it, while the bar is there already

        failed = draw_grid(
            plan, places, paths, kept, progress, overwrite=overwrite, download=again is None or "model" in said
        )
    drawn = again is None and "seed" not in said and all("seed" not in axis.varies for axis in plan.axes.values())
    if drawn and not quiet:
        say(f"seed {plan.base['seed']} (drawn at random; --seed {plan.base['seed']} draws the same again)")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def as_in_generate(command: Any) -> None:
    """Give a command that takes `**options` the options of `sfumato generate` that say something of a picture."""
    own = inspect.signature(command).parameters
    shared = [
        parameter
        for name, parameter in inspect.signature(generate).parameters.items()
        if name != "prompts" and name not in OF_A_RUN
    ]
    mine = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*mine, *shared])
    hints = {**get_type_hints(generate, include_extras=True), **get_type_hints(command, include_extras=True)}
    command.__annotations__ = {parameter.name: hints[parameter.name] for parameter in (*mine, *shared)}


as_in_generate(grid)


def _sheet_paths(out: Path | None, plan: GridPlan, pages: int, *, overwrite: bool) -> list[Path]:
    """Where the sheet goes: one file, but for a PNG of several pages. Raises OptionError for another suffix."""
    stem = f"{slug(plan.matrix or plan.base['prompt'] or 'prompts')}-grid"
    if out is None or out.is_dir():
        folder = out or Path(DEFAULT_FOLDER)
        out = folder / f"{stem}.png" if overwrite else next_free_path(folder, stem, ".png")
    if out.suffix.lower() not in SUFFIXES:
        raise OptionError(f"the sheet {out.name!r} has the suffix {out.suffix!r}; expected {' or '.join(SUFFIXES)}")
    if pages == 1 or out.suffix.lower() == ".html":
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(1, pages + 1)]


def _stem(number: int, place: Place, plan: GridPlan) -> str:
    """The name of a kept picture: `003-steps-50-sampler-euler`."""
    return f"{number:03}-{slug(' '.join(label_of(place, plan)))}"


def label_of(place: Place, plan: GridPlan) -> list[str]:
    """What tells a cell from the others: `["sampler Euler", "steps 50"]`."""
    at: Mapping[str, int] = {"x": place.x, "y": place.y, "z": place.z}
    letters: Sequence[str] = [letter for letter in "zyx" if letter in plan.axes]
    return [f"{plan.axes[letter].title} {plan.axes[letter].values[at[letter]].label}" for letter in letters]
