"""The work of `sfumato grid`: its pictures drawn, kept where that is wanted, and laid out on sheets."""

import json
from collections.abc import Sequence
from pathlib import Path

from sfumato.cli.grid import label_of
from sfumato.cli.grid_plan import CHUNK, GridPlan, Place
from sfumato.cli.painting import Painted, Painter
from sfumato.cli.progress import DrawingProgress
from sfumato.cli.terminal import in_options
from sfumato.cli.wanted import wanted_of
from sfumato.errors import EvaluationError
from sfumato.files import write_whole
from sfumato.images import save_image
from sfumato.infotext import SAMPLER_NAMES
from sfumato.recipe import Recipe
from sfumato.sheets import Cell, Page, Sheet, draw_page, web_page
from sfumato.sheets.differences import said, schedule_of


def draw_grid(
    plan: GridPlan,
    places: Sequence[Place],
    paths: Sequence[Path],
    kept: Sequence[Path],
    progress: DrawingProgress,
    *,
    overwrite: bool,
    download: bool,
) -> bool:
    """Draw all the pictures and write the sheets; whether some failed.

    Everything is checked before anything is drawn: raises UsageError for a cell that can't be, and EvaluationError if none could be drawn.
    """
    wanted = [wanted_of(place.options) for place in places]
    cells: list[Cell] = [Cell()] * len(places)
    notes: dict[str, None] = {}
    for number, outcome in Painter(download=download).paint(wanted, progress.shares()):
        which = ", ".join(label_of(places[number], plan))
        if isinstance(outcome, Painted):
            cells[number] = Cell(image=outcome.image, recipe=outcome.recipe)
            if kept:
                save_image(outcome.image, kept[number], outcome.recipe, overwrite=overwrite)
            for note in outcome.notes:
                if note not in notes:  # the same of all, mostly
                    notes[note] = None
                    progress.note(f"{which}: {note}")
        else:
            cells[number] = Cell(failure=in_options(str(outcome)))
            progress.note(f"{which} failed: {outcome}")
    failed = sum(cell.image is None for cell in cells)
    if failed == len(cells):
        raise EvaluationError(f"none of the {failed} pictures could be made; the notes above say why")
    _write(sheet_of(plan, cells), plan, paths, overwrite=overwrite)
    for path in (*kept, *paths):
        if path.exists():
            progress.saved(path)
    return failed > 0


def sheet_of(plan: GridPlan, cells: Sequence[Cell]) -> Sheet:
    """The cells, page by page and row by row, with the labels of the axes."""
    x, y, z = (plan.axis(letter) for letter in "xyz")
    across, down = len(x.values), len(y.values)
    pages: list[Page] = []
    for place, value in enumerate(z.values):
        own = cells[place * across * down :][: across * down]
        pages.append(
            Page(
                heading=f"{z.title}: {value.label}" if z.title else "",
                columns=tuple(value.label for value in x.values),
                rows=tuple(value.label for value in y.values),
                cells=tuple(tuple(own[row * across :][:across]) for row in range(down)),
            )
        )
    recipes = [cell.recipe for cell in cells if cell.recipe is not None]
    title = plan.matrix or plan.base["prompt"] or "Prompts"
    return Sheet(title=title, caption=shared(recipes), x=x.title, y=y.title, pages=tuple(pages))


def shared(recipes: Sequence[Recipe]) -> str:
    """What all pictures have in common, of what people ask for first."""
    lines = [
        {
            "model": recipe.model,
            "not": recipe.negative_prompt,
            "sampler": SAMPLER_NAMES.get(recipe.sampler, recipe.sampler),
            "schedule": schedule_of(recipe),
            "steps": str(recipe.steps),
            "guidance": said(recipe.guidance_scale),
            "seed": str(recipe.seed),
            "size": f"{recipe.width}x{recipe.height}",
            "strength": said(recipe.workflow_options.get("strength", "")),
        }
        for recipe in recipes
    ]
    first = lines[0]
    common = [name for name in first if first[name] and all(line[name] == first[name] for line in lines)]
    return "  ·  ".join(f"{name} {first[name]}" for name in common)


def _write(sheet: Sheet, plan: GridPlan, paths: Sequence[Path], *, overwrite: bool) -> None:
    if paths[0].suffix.lower() == ".html":
        write_whole(paths[0], web_page(sheet, plan.definition()).encode("utf-8"), overwrite=overwrite)
        return
    for path, page in zip(paths, sheet.pages, strict=True):
        # A page on which nothing could be drawn says so, and has no recipe.
        save_image(
            draw_page(sheet, page),
            path,
            page.recipes or None,
            overwrite=overwrite,
            chunks={CHUNK: json.dumps(plan.definition())},
        )
