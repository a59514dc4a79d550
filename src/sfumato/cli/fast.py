"""What `--fast` says: alone, several sound things together; or one of them, with a value where another than the usual one is wanted."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer.core

from sfumato.errors import MissingFileError, OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from sfumato.pipeline import StableDiffusionPipeline
    from sfumato.recipe import Recipe

SOUND = "sound"
"""What is read where `--fast` stands alone."""

_WORD = re.compile(r"[a-z_]+(:\S*)?")
_RANGE = re.compile(r"(\d*\.?\d+)-(\d*\.?\d+)", re.ASCII)


class TakesFast(typer.core.TyperCommand):
    """A command whose `--fast` may stand alone. What follows it is its name only where it looks like one: one small word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As any command does, with SOUND put after each `--fast` that stands alone."""
        end = args.index("--") if "--" in args else len(args)
        filled: list[str] = []
        for place, word in enumerate(args):
            filled.append(word)
            following = args[place + 1] if place + 1 < end else ""
            if word == "--fast" and place < end and not _WORD.fullmatch(following):
                filled.append(SOUND)
        return super().parse_args(ctx, filled)


def fast_options(said: Sequence[str] | None) -> dict[str, Any]:
    """The option of a call, of `cache`, `cache:3`, `interval:0.1-0.8` …; nothing for nothing. Raises OptionError for values that are none."""
    values: dict[str, Any] = {}
    for text in said or ():
        name, colon, value = text.strip().partition(":")
        if name in values or (name == SOUND and colon):
            raise OptionError(f"--fast {text} can't be said beside another; say each once, such as --fast cache:3")
        values[name] = _value(name, value) if colon else True
    if not values:
        return {}
    if SOUND not in values:
        return {"fast": values}
    from sfumato.pipeline.fast_options import TOGETHER

    return {"fast": {**TOGETHER, **{name: value for name, value in values.items() if name != SOUND}}}


def load_recipe_s_tiny_vae(
    pipe: "StableDiffusionPipeline", recipe: "Recipe", picture: "Path", given: "Path | None"
) -> None:
    """Load the tiny autoencoder that a recipe names: the file given, or else one of its name here or beside the picture.

    Raises MissingFileError for one that is nowhere. A path in a recipe is not followed: only its last part is looked for.
    """
    from pathlib import Path

    from sfumato.pipeline.tiny_decoding import RECORDED

    record = recipe.fast.get(RECORDED)
    if record is None and given is None:
        return
    if given is None:
        file = str(record.get("file")) if isinstance(record, Mapping) else ""
        name = file.replace("\\", "/").rpartition("/")[2]
        sound = name not in ("", ".", "..") and "\0" not in name
        given = next((place for place in (Path(name), picture.parent / name) if sound and place.is_file()), None)
        if given is None:
            raise MissingFileError(
                f"{picture} was decoded by {name!r}, and no such file is here or beside the picture; pass --vae-tiny FILE"
            )
    pipe.load_tiny_vae(given)


def _value(name: str, text: str) -> Any:
    """A number, or two, as a call takes them."""
    if pair := _RANGE.fullmatch(text):
        return float(pair[1]), float(pair[2])
    try:
        number = float(text)
    except ValueError:
        raise OptionError(
            f"--fast {name}:{text} says no number; expected such as --fast cache:3 or --fast interval:0.1-0.8"
        ) from None
    return int(number) if number.is_integer() and not re.search(r"[.e]", text) else number
