"""What a grid is made of: options that all its pictures share, and axes; and how that goes into its sheet and comes out again."""

import csv
import io
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.axes import WEIGHT, Axis, Value, matrix_axes, parse_axis, sets
from sfumato.cli.fields import PATHS, fields, find_field
from sfumato.cli.generate import DRAWN_SEEDS
from sfumato.errors import ImageError, MissingFileError, OptionError, PromptError, RecipeError, UnknownNameError

CHUNK = "sfumato-grid"
"""The name of the text chunk of a PNG, and the id of the HTML element, in which a sheet holds its grid."""
MOST_CELLS = 4096
_ONE = Axis(title="", values=(Value("", lambda options: options),), said="", varies=())
_HELD = re.compile(r'<script type="application/json" id="sfumato-grid">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One cell: where it is, counted from 0, and the options of its picture."""

    x: int
    y: int
    z: int
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class GridPlan:
    """A grid: `base` are options of `sfumato generate` that were said, prompt and seed among them; `axes` are by letter."""

    base: Mapping[str, Any]
    axes: Mapping[str, Axis]
    matrix: str | None = None

    def axis(self, letter: str) -> Axis:
        """The axis of a letter; one of a single unnamed place where there is none."""
        return self.axes.get(letter, _ONE)

    def places(self) -> Iterator[Place]:
        """The cells, page by page and row by row."""
        axes = {letter: self.axis(letter) for letter in "zyx"}
        # Whole prompts and parts of them first, so that words are replaced in them.
        order = sorted("xyz", key=lambda letter: axes[letter].replaces)
        for z in range(len(axes["z"].values)):
            for y in range(len(axes["y"].values)):
                for x in range(len(axes["x"].values)):
                    at, options = {"x": x, "y": y, "z": z}, self.base
                    for letter in order:
                        options = axes[letter].values[at[letter]].apply(options)
                    yield Place(x=x, y=y, z=z, options=options)

    def definition(self) -> dict[str, Any]:
        """The grid as JSON: files by their names, not by where they lie."""
        said = {name: value for name, value in self.base.items() if name != "prompt"}
        return {
            "format": 1,
            "prompt": self.base["prompt"],
            "matrix": self.matrix,
            "axes": {letter: _portable_axis(axis.said) for letter, axis in self.axes.items() if axis.said},
            "options": {name: _portable(name, value) for name, value in said.items()},
        }


def plan_grid(
    options: Mapping[str, Any], axes: Mapping[str, str], prompts: Sequence[str], matrix: str | None
) -> GridPlan:
    """The grid of these options and axes (`NAME:VALUES` by letter), for one prompt or a prompt matrix.

    A seed is drawn where none is given, for all pictures. Raises UsageError for what makes no grid.
    """
    from sfumato.text.prompts import prompt_matrix

    if matrix is not None and prompts:
        raise PromptError(f"a prompt matrix is the prompt itself; leave out {prompts[0]!r}")
    if len(prompts) > 1:
        raise PromptError(
            f"a grid takes one prompt, and {len(prompts)} were given ({prompts[1]!r} is the second); an axis is x=, y= or z=NAME:VALUES"
        )
    read = None if matrix is None else prompt_matrix(matrix)
    base = {"prompt": read.base if read else prompts[0] if prompts else "", **options}
    words = {**base, "prompt": matrix or base["prompt"]}
    found = {letter: parse_axis(said, words) for letter, said in sorted(axes.items())}
    for letter, said in axes.items():
        name = sets(said)
        if name is not None and (name in options or (name == "prompt" and base["prompt"])):
            raise OptionError(
                f"{fields()[name].title} is given for all pictures, and {letter}= varies it; leave one of them out"
            )
    if base.get("seed") is None and "seed" not in map(sets, axes.values()):
        base["seed"] = secrets.randbelow(DRAWN_SEEDS)
    if read is not None:
        sides = matrix_axes(read)
        if taken := [letter for letter in sides if letter in found]:
            raise OptionError(
                f"the prompt matrix lies along {' and '.join(sides)}; leave out {taken[0]}=, or make it z="
            )
        found = {**sides, **found}
    if not found:
        raise OptionError('a grid needs an axis, such as "x=steps:10,20,50", or --matrix "a cat|in a hat|at night"')
    varied = [*map(sets, axes.values()), *(["prompt"] if read is not None else [])]
    varied += [axis.title for axis in found.values() if WEIGHT in axis.varies]
    if twice := [name for name in varied if name is not None and varied.count(name) > 1]:
        raise OptionError(f"two axes set {twice[0].replace('_', ' ')}; let one of them set something else")
    plan = GridPlan(base=base, axes=found, matrix=matrix)
    count = len(plan.axis("x").values) * len(plan.axis("y").values) * len(plan.axis("z").values)
    if count > MOST_CELLS:
        raise OptionError(f"the grid has {count:,} pictures; {MOST_CELLS:,} are the most")
    if not base["prompt"].strip() and not any(axis.title == "prompt" for axis in found.values()):
        raise PromptError('no prompt; say what to draw, such as: sfumato grid x=steps:10,20 "a red apple, 3d style"')
    return plan


def read_definition(sheet: Path) -> dict[str, Any]:
    """What `definition` wrote into a sheet, PNG or HTML. Raises ImageError, or RecipeError for a file that is no sheet of a grid."""
    from sfumato.images import read_chunk

    if sheet.suffix.lower() in (".html", ".htm"):
        try:
            match = _HELD.search(sheet.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise ImageError(f"can't read {sheet}: {error.strerror or error}") from error
        text = match[1] if match else None
    else:
        text = read_chunk(sheet, CHUNK)
    if text is None:
        raise RecipeError(f"{sheet} holds no grid; only sheets that `sfumato grid` wrote do")
    try:
        held: Any = json.loads(text)
        sound = held["format"] == 1 and isinstance(held["prompt"], str) and isinstance(held["matrix"], str | None)
        sound = sound and all(isinstance(said, str) for said in held["axes"].values()) and isinstance(held["options"], dict)  # fmt: skip
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"the grid in {sheet} is damaged ({type(error).__name__}: {error})") from error
    if not sound:
        raise RecipeError(f"the grid in {sheet} is damaged, or a newer Sfumato wrote it")
    return held


def plan_again(
    sheet: Path, options: Mapping[str, Any], axes: Mapping[str, str], prompts: Sequence[str], matrix: str | None
) -> GridPlan:
    """The grid of a sheet, with what is said now in place of what was said then. Files are found by name, here or beside the sheet.

    Raises as `plan_grid` and `read_definition`, and MissingFileError for a file that is not found.
    """
    held = read_definition(sheet)
    then = {
        letter: _found_axis(said, sheet)
        for letter, said in held["axes"].items()
        if letter in ("x", "y", "z") and letter not in axes
    }
    varied = set(map(sets, [*then.values(), *axes.values()]))
    before: dict[str, Any] = {}
    for name, value in held["options"].items():
        if name not in fields():
            raise RecipeError(
                f"the grid in {sheet} says {name!r}, which is unknown; a newer Sfumato may have written it"
            )
        if name not in options and name not in varied:
            taken = fields()[name].take(value)
            before[name] = _found(name, taken, sheet) if name in PATHS else taken
    if not prompts and matrix is None:
        matrix = held["matrix"]
        prompts = [held["prompt"]] if matrix is None and held["prompt"] and "prompt" not in varied else []
    return plan_grid({**before, **options}, {**then, **axes}, prompts, matrix)


def _portable(name: str, value: Any) -> Any:
    """A value as JSON, a file by its name alone; the id of a model of the hub stays."""
    if isinstance(value, list | tuple):
        return [_portable(name, one) for one in value]
    return _last(name, str(value)) if name in PATHS else value


def _last(name: str, text: str) -> str:
    from sfumato.checkpoints.hub import is_hub_id

    if name == "model" and is_hub_id(text) and not Path(text).exists():
        return text
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _portable_axis(said: str) -> str:
    return _each_file(said, _last)


def _found_axis(said: str, sheet: Path) -> str:
    return _each_file(said, lambda name, text: _found(name, text, sheet))


def _each_file(said: str, change: Any) -> str:
    """An axis with each of its values changed if they are files; as it is otherwise."""
    name, _, listed = said.partition(":")
    try:
        field = find_field(name, "axis")
    except UnknownNameError:
        return said  # S/R, or a LoRA's weight
    if field.name not in PATHS:
        return said
    values = next(csv.reader(io.StringIO(listed, newline=""), skipinitialspace=True), [])
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([change(field.name, value.strip()) for value in values])
    return f"{name}:{line.getvalue()}"


def _found(name: str, value: Any, sheet: Path) -> Any:
    """A file that a sheet names, here or beside it; no path in it is followed."""
    from sfumato.checkpoints.hub import is_hub_id

    if isinstance(value, list):
        return [_found(name, one, sheet) for one in value]
    text = str(value)
    if not text or (name == "model" and is_hub_id(text) and "/" in text):
        return value
    last = _last("", text)
    file = re.sub(r"(:[^:]*){1,2}$", "", last) if name in ("lora", "embedding") else last
    if file not in ("", ".", "..") and "\0" not in file:
        for folder in (Path(), sheet.parent):
            if (folder / file).exists():
                return type(value)(folder / last)
    raise MissingFileError(
        f"{sheet} was made with the {name.replace('_', ' ')} {last!r}, which is neither here nor beside it; pass --{name.replace('_', '-')}"
    )
