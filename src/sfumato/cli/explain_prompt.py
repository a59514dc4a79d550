"""`sfumato explain-prompt`: what a prompt means, without drawing it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.wording import EMPHASIS_HELP, Worded
from sfumato.errors import MissingFileError, OptionError

if TYPE_CHECKING:
    from sfumato.text.tokenizer import Tokenizer


def explain_prompt(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt to explain.")],
    negative: Annotated[str | None, typer.Option(help="A negative prompt to explain beside it.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the run that it is explained for.")] = 20,
    emphasis: Annotated[str, typer.Option(help=EMPHASIS_HELP)] = "a1111",
    style: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A style around it. Repeat for several.")
    ] = None,
    styles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table of styles. (default: styles.csv)")
    ] = None,
    wildcards: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Lists for __name__, as .txt files.")] = None,
    seed: Annotated[int, typer.Option(help="The seed that wildcards are drawn with.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Whose tokens to count: a folder or hub id. (default: the bundled model)")
    ] = None,
) -> None:
    """Show a prompt's windows and weights, what changes at which step, and what was dropped."""
    from sfumato.text.prompts import check_emphasis, explain

    if steps < 1:
        raise OptionError(f"--steps is {steps}; expected 1 or more")
    mode = check_emphasis(emphasis)
    worded = Worded.of(mode, style, styles, wildcards)
    tokenizer = _tokenizer(model)
    read = worded.prompt(prompt, seed)
    if read != prompt:
        print(f"prompt: {read}")
    print("\n".join(explain(read, mode, tokenizer, steps)))
    words = worded.negative(negative)
    if words:
        print(f"negative prompt: {words}")
        print("\n".join(explain(words, mode, tokenizer, steps, negative=True)))


def _tokenizer(model: str | None) -> "Tokenizer":
    from sfumato.bundle import bundled_model
    from sfumato.text.tokenizer import Tokenizer

    folder = bundled_model() if model is None else Path(model).expanduser()
    if model is not None and not folder.is_dir():
        from sfumato.checkpoints.hub import fetch, is_hub_id

        if folder.exists() or not is_hub_id(model):
            raise MissingFileError(
                f"there is no model folder {model!r}; name a folder in the diffusers layout, or a hub id"
            )
        folder = fetch(model, only=["tokenizer/*"])
    return Tokenizer.from_folder(folder / "tokenizer")
