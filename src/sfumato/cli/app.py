"""The tree of commands, and what becomes of an error: one line on stderr and an exit code."""

import os
import sys
from typing import Annotated

import typer

from sfumato.cli.batch import batch
from sfumato.cli.convert import convert, merge
from sfumato.cli.evaluation import evaluation
from sfumato.cli.explain_prompt import explain_prompt
from sfumato.cli.fast import TakesFast
from sfumato.cli.generate import generate
from sfumato.cli.grid import grid
from sfumato.cli.inspect import inspect
from sfumato.cli.replay import replay
from sfumato.cli.samplers import samplers
from sfumato.cli.terminal import say, say_error
from sfumato.cli.training import data, train
from sfumato.errors import SfumatoError
from sfumato.version import __version__

EXIT_WRONG = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it

app = typer.Typer(
    help="Stable Diffusion, built from its parts: text in, pictures out.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=TakesFast)(generate)
app.command(cls=TakesFast)(grid)
app.command(cls=TakesFast)(batch)
app.command()(replay)
app.command()(inspect)
app.command()(samplers)
app.command("explain-prompt")(explain_prompt)
app.command()(convert)
app.command()(merge)
app.add_typer(data, name="data")
app.add_typer(train, name="train")
app.add_typer(evaluation, name="eval")

# What the command line's parser raises; public in no version of typer, but the base of what is.
CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sfumato {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - the callback has acted on it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Stable Diffusion, built from its parts: text in, pictures out."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command and exit: 0 done, 2 what was asked can't be done, 130 stopped by Ctrl-C; 1 the answer is no: `replay` made another picture, `eval` found the bundled model under its baseline."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code. Every error made on purpose is one line on stderr; any other is a bug, and shows itself."""
    try:
        code = app(arguments, prog_name="sfumato", standalone_mode=False)
    except SfumatoError as error:
        say_error(str(error))
        return EXIT_WRONG
    except CommandLineError as error:
        message = " ".join(error.format_message().split())  # pyright: ignore[reportAttributeAccessIssue]
        say_error(f"{message.rstrip('.')}; `sfumato --help` and `sfumato COMMAND --help` say how")
        return EXIT_WRONG
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        # A file of the person's that the system keeps from us; what we know more of, we say where it happens.
        say_error(f"can't open {error.filename}: {error.strerror}; check that it is there and may be read")
        return EXIT_WRONG
    if code == EXIT_INTERRUPTED:
        say("stopped; what was finished is saved, and nothing half-written is left")
    return code if isinstance(code, int) else 0
