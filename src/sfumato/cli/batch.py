"""`sfumato batch`: pictures from the rows of a file, going on where it was stopped."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.batch_rows import read_jobs
from sfumato.cli.fields import fields
from sfumato.cli.generate import EXIT_SOME_FAILED
from sfumato.cli.grid import as_in_generate
from sfumato.errors import OptionError

# What says where a recipe's parts are, and not what is drawn.
_FOR_RECIPES = ("model", "variant", "device", "lora", "embedding")


def batch(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rows, .jsonl or .csv: options of `sfumato generate`, or recipes.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the pictures go; those that are there are not drawn again.")
    ] = Path("outputs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be drawn, and draw nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Draw again what is there.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar; only notes, errors and paths.")
    ] = False,
    **options: Any,
) -> None:
    """Draw the pictures that the rows of a file ask for. Other options are shared by all rows that don't say otherwise.

    Prints the path of each. Stopped in any way, it goes on where it was when it is run again. Exits with 2 if some rows failed.
    """
    shared = {name: value for name, value in options.items() if value != fields()[name].default}
    jobs = read_jobs(file, shared)
    if recipes := [job.row for job in jobs if job.recipe is not None]:
        for name in shared:
            if name not in _FOR_RECIPES:
                raise OptionError(
                    f"row {recipes[0]} is a recipe, which says itself how it is drawn; leave out --{name.replace('_', '-')}"
                )
    from sfumato.cli.batch_drawing import Batch

    work = Batch(file, jobs, shared, out, overwrite=overwrite, quiet=quiet)
    if dry_run:
        work.show()
        return
    if work.run():
        raise typer.Exit(EXIT_SOME_FAILED)


as_in_generate(batch)
