"""`sfumato data …` and `sfumato train …`: how the bundled model is made."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.terminal import say

data = typer.Typer(help="The art that the bundled model learns from.", no_args_is_help=False)
train = typer.Typer(help="Train the parts of the bundled model.", no_args_is_help=False)

Config = Annotated[str, typer.Argument(help="A TOML file, or the name of a config in the package.")]
RunFolder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="The run's folder; a run that was stopped goes on from there.")
]


@data.callback(invoke_without_command=True)
@train.callback(invoke_without_command=True)
def _overview(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@data.command()
def build(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the dataset goes.")] = Path("runs/data"),
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 64,
    packages: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where fetched packages are kept. (default: OUT/packages)")
    ] = None,
) -> None:
    """Fetch, render and caption the art. Prints the paths of the dataset and its contact sheet."""
    from sfumato.training.data import build as build_data

    report = build_data(out, size=size, packages=packages, progress=say)
    print(report.dataset)
    print(report.sheet)


@train.command("vae")
def train_vae(config: Config, out: RunFolder) -> None:
    """Train the autoencoder. Prints the path of what it leaves."""
    from sfumato.training.vae import train as run

    print(run(config, out, progress=say))


@train.command("base")
def train_base(config: Config, out: RunFolder) -> None:
    """Train text encoder and U-Net together. Prints the path of what they leave."""
    from sfumato.training.base import train as run

    print(run(config, out, progress=say))


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
    guidance: Annotated[float, typer.Option(help="Guidance that the model recommends.")] = 3.0,
) -> None:
    """Write a base run as a model folder that diffusers opens too. Prints its path."""
    from sfumato.training.export import export as write

    print(write(config, run, out, decoder_run=decoder, steps=steps, guidance_scale=guidance))
