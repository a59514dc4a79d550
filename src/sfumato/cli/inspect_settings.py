"""`sfumato inspect` of a picture that another program drew."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.terminal import harmless, table

if TYPE_CHECKING:
    from sfumato.metadata import Omission, Settings


def show_settings(settings: "Settings") -> None:
    """Print what a picture of another program was made from, in the words of a recipe, and what these can't say."""
    print(f"no recipe of Sfumato; another program ({settings.program}) left, in Sfumato's words:\n")
    rows: list[tuple[str, ...]] = []
    for option in fields(settings):
        value = getattr(settings, option.name)
        if (
            option.name in ("omissions", "loras", "sampling")
            or value is None
            or (value == option.default and option.name != "rng")
        ):
            continue
        shown = "x".join(map(str, value)) if isinstance(value, tuple) else str(value).replace("\n", "\\n")
        rows.append((option.name.replace("_", " "), shown))
    rows += [(name.replace("_", " "), f"{value:g}") for name, value in settings.sampling.items()]
    for lora in settings.loras:
        text = "" if lora.text_weight == lora.weight else f", text {lora.text_weight:g}"
        rows.append(("LoRA", f"{lora.name}: {lora.weight:g}{text}" + (f" ({lora.hash})" if lora.hash else "")))
    table(rows)
    if settings.omissions:
        print("\nnot carried over:")
        show_omissions(settings.omissions)


def show_omissions(omissions: Sequence["Omission"]) -> None:
    """Print what could not be carried over, one a line, each with the reason."""
    for one in omissions:
        value = f" {one.value}" if one.value else ""
        print(f"  {harmless(f'{one.name}{value}')}: {one.why}")


def show_definition(path: "Path") -> None:
    """Print what the sheet of a grid, a PNG or HTML, was made from; nothing for other pictures. Raises RecipeError."""
    from sfumato.cli.grid_plan import CHUNK, read_definition
    from sfumato.images import read_chunk

    if path.suffix.lower() not in (".html", ".htm") and read_chunk(path, CHUNK) is None:
        return
    held = read_definition(path)
    print("a sheet of `sfumato grid`; --replay draws it again")
    axes = [(f"{letter}", said) for letter, said in held["axes"].items()]
    matrix = [] if held["matrix"] is None else [("matrix", held["matrix"])]
    options = [(name.replace("_", " "), str(value)) for name, value in held["options"].items()]
    table([*axes, *matrix, ("prompt", held["prompt"]), *options])
    print()
