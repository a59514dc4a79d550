"""`sfumato data …` and `sfumato train …`: how the bundled model is made."""

import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.terminal import say
from sfumato.errors import SfumatoError

data = typer.Typer(help="The art that the bundled model learns from.", no_args_is_help=False)
train = typer.Typer(help="Train the parts of the bundled model.", no_args_is_help=False)

GUIDANCE = 3.0

Config = Annotated[str, typer.Argument(help="A TOML file, or the name of a config in the package.")]
RunFolder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="The run's folder; a run that was stopped goes on from there.")
]


def _nearest(clock: str | None) -> float | None:
    """When a clock here shows so, the time nearest to now: what has just passed is not tomorrow's."""
    if clock is None:
        return None
    try:
        time = datetime.time.fromisoformat(clock)
    except ValueError as error:
        raise typer.BadParameter(f"{clock} is no time of day, expected HH:MM or HH:MM:SS") from error
    if time.tzinfo is not None:
        raise typer.BadParameter(f"{clock} names a time zone, expected HH:MM or HH:MM:SS of this machine's clock")
    now, day = datetime.datetime.now(), datetime.timedelta(days=1)
    today = datetime.datetime.combine(now.date(), time)
    return min((today - day, today, today + day), key=lambda then: abs(then - now)).timestamp()


Until = Annotated[
    Any,
    typer.Option(
        metavar="HH:MM:SS",
        parser=_nearest,
        help="Take the last step at this time of day, the learning rate's decay before it, whatever the config says of minutes.",
    ),
]


@data.callback(invoke_without_command=True)
@train.callback(invoke_without_command=True)
def _overview(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


class Size(StrEnum):
    """The sides that the art is rendered at."""

    SMALL = "64"
    MEDIUM = "128"
    LARGE = "256"


@data.command()
def build(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the dataset goes.")] = Path("runs/data"),
    size: Annotated[Size, typer.Option(help="Side of the pictures, in pixels.")] = Size.SMALL,
    vocabulary: Annotated[
        str,
        typer.Option(
            metavar="listed|all|FILE",
            help="What is taught: 231 common things, every concept that two styles draw, or your list.",
        ),
    ] = "listed",
    styles: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            metavar="STYLE",
            help="A style to teach; repeat it for more. (default: 3d, glossy, flat, noto, twemoji; every one with all)",
        ),
    ] = None,
    held_out: Annotated[
        int, typer.Option(metavar="N", min=0, help="Pairs of thing and style that training never sees.")
    ] = 200,
    held_out_styles: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out-style",
            metavar="STYLE",
            help="A style that pairs are held out of; repeat it for more. (default: all that are taught)",
        ),
    ] = None,
    shard_mb: Annotated[
        float | None,
        typer.Option("--shard-mb", metavar="MB", min=1, help="Write several files, each under so many million bytes."),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=0, max=100, help="Store colours with loss, 100 the least; transparency stays exact. (default: no loss)"
        ),
    ] = None,
    packages: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where fetched packages are kept. (default: OUT/packages)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes that render. (default: one a core, at most 16)")
    ] = None,
) -> None:
    """Fetch, filter, render and name the art. Prints the paths of the dataset, its contact sheets and its count."""
    from sfumato.training.data import build as build_data

    report = build_data(
        out,
        size=int(size.value),
        vocabulary=vocabulary,
        styles=tuple(styles) if styles else None,
        held_out=held_out,
        held_out_styles=tuple(held_out_styles) if held_out_styles else None,
        shard_mb=shard_mb,
        quality=quality,
        packages=packages,
        workers=workers,
        progress=say,
    )
    say(", ".join(f"{licence}: {count} pictures" for licence, count in report.licences.items()))
    say(f"{report.things} things, {report.taught} pictures taught, {report.held_out} pairs of thing and style held out")
    for path in (*report.files, *report.sheets, report.report):
        print(path)


@train.command("vae")
def train_vae(config: Config, out: RunFolder, until: Until = None) -> None:
    """Train the autoencoder. Prints the path of what it leaves."""
    from sfumato.training.vae import train as run

    print(run(config, out, until=until, progress=say))


@train.command("base")
def train_base(
    config: Config,
    out: RunFolder,
    model: Annotated[
        Path | None,
        typer.Option("--export", metavar="FOLDER", help="Write the model there as well, at each checkpoint."),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help=f"Guidance that a model written there recommends. (default: {GUIDANCE:g})")
    ] = None,
    until: Until = None,
) -> None:
    """Train text encoder and U-Net together. Prints the path of what they leave."""
    from sfumato.training.base import BaseRun
    from sfumato.training.base import train as run
    from sfumato.training.start import is_model

    failed: SfumatoError | None = None

    def write(so_far: BaseRun) -> None:
        from sfumato.training.export import write_model

        nonlocal failed
        assert model is not None
        try:
            write_model(so_far, model, config, guidance_scale=GUIDANCE if guidance is None else guidance)
            failed = None
        except SfumatoError as error:  # the training is worth more than this copy of it
            failed = error
            say(f"the model was not written: {error}")

    if model is None and guidance is not None:
        raise typer.BadParameter("--guidance is what a model written by --export recommends; give both")
    if model is not None and model.exists() and not is_model(model):
        raise typer.BadParameter(f"{model} is there and holds no model; choose another folder for --export")
    print(run(config, out, at_checkpoint=write if model else None, until=until, progress=say))
    if failed is not None:
        raise failed


@train.command("wordings")
def train_wordings(config: Config, out: RunFolder, until: Until = None) -> None:
    """Teach a model's text encoder other wordings of what it reads; nothing else changes. Prints the path of the model it leaves."""
    from sfumato.training.wordings import train as run

    print(run(config, out, until=until, progress=say))


@train.command()
def export(
    config: Config,
    run: Annotated[Path, typer.Option("--run", metavar="FOLDER", help="The folder of the base run.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the model goes; one that is there is replaced.")
    ],
    decoder: Annotated[
        Path | None,
        typer.Option("--decoder", metavar="FOLDER", help="A later run of the autoencoder's decoder, to take instead."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps that the model recommends.")] = 20,
    guidance: Annotated[float, typer.Option(help="Guidance that the model recommends.")] = GUIDANCE,
) -> None:
    """Write a base run as a model folder that diffusers opens too. Prints its path."""
    from sfumato.training.export import export as write

    print(write(config, run, out, decoder_run=decoder, steps=steps, guidance_scale=guidance))
