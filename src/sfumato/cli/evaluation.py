"""`sfumato eval`: how well a model draws what it is asked, in numbers, and the gallery that it is compared with."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.terminal import say, say_error
from sfumato.errors import BaselineError, OptionError, UnknownNameError
from sfumato.files import check_writable, next_free_path

if TYPE_CHECKING:
    from sfumato.checkpoints.card import Card
    from sfumato.evaluation import Baseline, Evaluation, Gallery, Repertoire
    from sfumato.evaluation.autoencoded import HandedOn
    from sfumato.evaluation.prompts import Kind

EXIT_UNDER_BASELINE = 1
DEFAULT_FOLDER = Path("outputs")
DISTANCES = {"frechet": "Fréchet distance × 1000", "discrepancy": "mean discrepancy × 1000"}
PICTURES_PER_CALL = {"cpu": 1}
PICTURES_PER_CALL_ELSEWHERE = 16

evaluation = typer.Typer(help="How well a model draws what it is asked.", no_args_is_help=False)


@evaluation.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="The model. (default: the bundled one)", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(help="Prompts of each kind.")] = 100,
    seed: Annotated[
        int, typer.Option(help="Chooses the prompts, and is the seed of the first picture of each kind.")
    ] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only this kind of prompts; may be given again.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps. (default: the model's)", show_default=False)
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance. (default: the model's)", show_default=False)] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, … (default: an accelerator if there is one)", show_default=False)
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Compute the U-Net in int8, on a CPU.")] = False,
    compared: Annotated[
        Path | None,
        typer.Option("--gallery", metavar="FILE", help="The gallery. (default: the package's)", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results and sheets go. (default: outputs/eval)", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")] = False,
    write_baseline: Annotated[
        bool, typer.Option("--write-baseline", help="Make these scores the bundled model's baseline.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Draw what prompts ask for, judge the pictures, and set the scores beside real art's. Prints a table and the paths of what was written.

    Exits with 1 when the bundled model scores under its baseline.
    """
    if context.invoked_subcommand is not None:
        return
    other = model is not None or steps is not None or guidance is not None or compared is not None
    if write_baseline and (other or only or int8):
        raise OptionError(
            "the baseline is the bundled model's, of all kinds and as it draws by itself; leave out --model, --only, --steps, "
            "--guidance, --gallery and --int8"
        )
    folder = out or next_free_path(DEFAULT_FOLDER, "eval", "")
    check_writable(folder / "results.json", overwrite=overwrite)
    if seed < 0:
        raise OptionError(f"the seed is {seed}; expected 0 or more")
    with _bar("opening the model", quiet=quiet) as progress:
        from sfumato.cli.opening import open_model
        from sfumato.evaluation import evaluate as run
        from sfumato.evaluation import load_classifier, read_baseline, read_gallery
        from sfumato.evaluation.drawing import Drawing
        from sfumato.models.quantising import quantisation_of

        kinds = _kinds(only)
        classifier, gallery, baseline = load_classifier(), read_gallery(compared), read_baseline()
        pipe = open_model(model, device=device, safety="off")
        settings = {"num_inference_steps": steps, "guidance_scale": guidance}
        if int8:
            pipe.quantize()
        with _library_silent():
            result = run(
                Drawing(pipe, settings),
                gallery,
                classifier,
                _repertoire(gallery, pipe.card),
                count=count,
                seed=seed,
                kinds=kinds,
                at_once=PICTURES_PER_CALL.get(pipe.device.type, PICTURES_PER_CALL_ELSEWHERE),
                progress=progress,
            )
    if write_baseline:
        baseline = _new_baseline(result, pipe.source.origin.sha256)
    comparable = baseline if baseline and baseline.gallery_sha256 == result.gallery_sha256 else None
    _print_table(result, comparable)
    described = {"name": pipe.source.origin.name, "sha256": pipe.source.origin.sha256, **pipe.defaults}
    described |= {"int8": quantised.name} if (quantised := quantisation_of(pipe.unet)) is not None else {}
    described |= {name: value for name, value in settings.items() if value is not None}
    _write(folder, result, comparable, described)
    if not other and baseline is not None:
        try:
            baseline.check(result)
        except BaselineError as error:
            say_error(str(error))
            raise typer.Exit(EXIT_UNDER_BASELINE) from error


@evaluation.command()
def gallery(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset file, as `sfumato data build` makes it.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where it goes. (default: the package's)", show_default=False)
    ] = None,
    things: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Only so many things: those with pairs held out first. (default: all)",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Make the gallery of real art that pictures are compared with, and take real art's own scores. Prints its path."""
    with _bar("opening the art", quiet=quiet) as progress:
        from sfumato.evaluation import load_classifier, write_gallery
        from sfumato.evaluation.gallery import default_gallery_path
        from sfumato.evaluation.real_art import build_gallery
        from sfumato.training.data.pack import read_dataset

        path = out or default_gallery_path()
        made = build_gallery(read_dataset(dataset), load_classifier(), things=things, progress=progress)
        write_gallery(path, made)
    print(path)


@evaluation.command()
def autoencoder(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset file that the gallery was made of.")],
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="The model. (default: the bundled one)", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(help="Prompts of each kind.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the prompts.")] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only this kind of prompts; may be given again.", show_default=False),
    ] = None,
    compared: Annotated[
        Path | None,
        typer.Option("--gallery", metavar="FILE", help="The gallery. (default: the package's)", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Put real art through the model's autoencoder and judge what is left of it, as the model's own pictures are judged. Prints a table."""
    with _bar("opening the art", quiet=quiet) as progress:
        from sfumato.cli.opening import open_model
        from sfumato.evaluation import load_classifier, read_gallery
        from sfumato.evaluation.autoencoded import hand_on
        from sfumato.evaluation.judging import Judge
        from sfumato.training.data.pack import read_dataset

        kinds = _kinds(only)
        judge = Judge(read_gallery(compared), load_classifier())
        data = read_dataset(dataset)
        pipe = open_model(model, device="cpu", safety="off")
        repertoire = _repertoire(judge.gallery, pipe.card)
        results = hand_on(pipe.vae, data, judge, repertoire, count=count, seed=seed, kinds=kinds, progress=progress)
    _print_handed_on(results)


def _kinds(only: Sequence[str] | None) -> "list[Kind]":
    """The kinds of prompts that were named, in the order of all of them; all if none was. Raises UnknownNameError."""
    from sfumato.evaluation import KINDS

    for kind in only or ():
        if kind not in KINDS:
            raise UnknownNameError("kind of prompts", kind, KINDS)
    return [kind for kind in KINDS if not only or kind in only]


def _repertoire(gallery: "Gallery", card: "Card") -> "Repertoire":
    """What of the gallery's art a model may be asked for, by its card."""
    from sfumato.evaluation import Repertoire

    return Repertoire(gallery.entries).of_model(card.styles or None, card.vocabulary or None)


def _print_handed_on(results: "Sequence[HandedOn]") -> None:
    from rich.console import Console
    from rich.table import Table

    from sfumato.evaluation.judging import MEASURES

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("prompts")
    shown.add_column("what is right")
    for name in ("pictures", "real art", "through", "between", "ratio", "PSNR"):
        shown.add_column(name, justify="right")
    for one in results:
        measures = [measure for measure in MEASURES if measure in one.scores]
        for place, measure in enumerate(measures):
            real, through = one.scores[measure]
            shown.add_row(
                "" if place else one.kind,
                MEASURES[measure],
                str(through.of),
                f"{real.share:.2f}",
                f"{through.share:.2f}",
                "{:.2f}–{:.2f}".format(*through.interval),
                f"{through.share / real.share:.2f}" if real.right else "",
                "" if place else f"{one.psnr:.1f} dB",
            )
    Console(width=max(100, Console().width)).print(shown)


def _new_baseline(result: "Evaluation", model_sha256: str | None) -> "Baseline":
    from sfumato.evaluation import Baseline, write_baseline

    baseline = Baseline.of(result, model_sha256 or "")
    say(f"the baseline is now these scores: {write_baseline(baseline)}")
    return baseline


def _write(folder: Path, result: "Evaluation", baseline: "Baseline | None", model: dict[str, object]) -> None:
    from sfumato.evaluation.results import write_results
    from sfumato.evaluation.sheets import write_sheet

    write_results(folder / "results.json", result, baseline, model=model)
    print(folder / "results.json")
    for one in result.results:
        write_sheet(folder / f"{one.kind}.png", one.drawn)
        print(folder / f"{one.kind}.png")


def _print_table(result: "Evaluation", baseline: "Baseline | None") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sfumato.evaluation.results import lines_of

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("prompts")
    shown.add_column("what is right")
    for name in ("pictures", "ours", "between", "real art", "ratio", "baseline", "floor", "bar"):
        shown.add_column(name, justify="right")
    lines = list(lines_of(result, baseline))
    for one in result.results:
        for place, line in enumerate(line for line in lines if line.kind == one.kind):
            bar = Text("" if line.bar is None else str(line.bar))
            if line.bar is not None:
                met = line.bar.met(line.ours, line.real)
                bar.append(" met" if met else " missed", "green" if met else "red")
            under = line.floor is not None and line.ours.share < line.floor
            shown.add_row(
                "" if place else one.kind,
                line.title,
                str(line.ours.of),
                Text(f"{line.ours.share:.2f}", "red" if under else ""),
                "{:.2f}–{:.2f}".format(*line.ours.interval),
                "" if line.real is None else f"{line.real.share:.2f}",
                "" if line.ratio is None else f"{line.ratio:.2f}",
                "" if line.before is None else f"{line.before.share:.2f}",
                "" if line.floor is None else f"{line.floor:.2f}",
                bar,
            )
        for name, title in DISTANCES.items():
            ours, real = getattr(one.distances, name, None), getattr(one.real_distances, name, None)
            if one.distances is not None and ours is not None:
                shown.add_row(
                    "", title, str(one.distances.pictures), f"{ours:.1f}", "", "" if real is None else f"{real:.1f}"
                )
    # As wide as it is: a pipe has no width that its rows would have to be broken for.
    Console(width=max(124, Console().width)).print(shown)


@contextmanager
def _bar(doing: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr, gone when done; yields what moves it: how many pictures of how many are judged."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    off = quiet or not console.is_interactive
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False, disable=off
    ) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, whole: bar.update(task, description="pictures", completed=done, total=whole)


@contextmanager
def _library_silent() -> Iterator[None]:
    """While pictures are drawn, the library's log is quiet: what it says of a picture is in results.json."""
    logger = logging.getLogger("sfumato")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
