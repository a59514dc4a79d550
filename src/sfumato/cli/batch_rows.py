"""The rows of a batch: read from JSONL or CSV, checked, and each picture known by a hash of what was asked for."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.fields import Field, fields, find_field
from sfumato.cli.generate import DRAWN_SEEDS, plan_noise, plan_shots
from sfumato.cli.outputs import slug
from sfumato.cli.wording import STYLES
from sfumato.errors import DataError, OptionError, SfumatoError
from sfumato.recipe import Recipe

FORMATS = (".jsonl", ".csv")
NUMBER = Field(name="number", kind=int, several=False, default=1)

# What only a recipe has: options of the command have other names for these.
_OF_RECIPES = ("guidance_scale", "scheduler", "sampler")
_PICTURES = ("image", "mask", "depth")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One picture of a batch: from the row of that number, counted from 1, by options of `sfumato generate` or by a recipe."""

    row: int
    options: Mapping[str, Any]
    recipe: Recipe | None
    digest: str

    @property
    def prompt(self) -> str:
        """Its words."""
        return (self.recipe.prompt or "") if self.recipe else self.options["prompt"]

    @property
    def seed(self) -> int | None:
        """The seed of its noise."""
        return self.recipe.seed if self.recipe else self.options["seed"]

    @property
    def file(self) -> str:
        """The name of its file: the beginning of its prompt and of its hash."""
        return f"{slug(self.prompt)}-{self.digest[:12]}.png"


def read_jobs(path: Path, shared: Mapping[str, Any]) -> list[Job]:
    """The pictures of all rows, with the options that the rows share; a row's own go before these.

    Raises OptionError for another suffix, DataError for a file that can't be read, and for rows that are wrong: it says of the first ones
    what is.
    """
    if path.suffix.lower() not in FORMATS:
        raise OptionError(f"{path.name!r} has the suffix {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise DataError(f"can't read {path}: {why}") from error
    rows = _json_rows(text) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    jobs: list[Job] = []
    wrong: list[str] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        try:
            if isinstance(row, str):
                raise DataError(row)
            jobs += _jobs_of(number, row, shared, seen)
        except SfumatoError as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        raise DataError(wrong_rows(path, wrong))
    if not jobs:
        raise DataError(f"{path} has no rows; each is a JSON object, or a line of CSV below the names of its columns")
    return jobs


def wrong_rows(path: Path, wrong: Sequence[str]) -> str:
    """What is wrong with rows, in one line."""
    more = f"; and {len(wrong) - 3} more rows" if len(wrong) > 3 else ""
    return f"{path}: {'; '.join(wrong[:3])}{more}. Nothing was drawn"


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows by their numbers; a text is what is wrong with one. Lines count from 1, and empty ones are none."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = f"it is not JSON ({error})"
        yield number, row if isinstance(row, dict | str) else "it is no JSON object"


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows by their numbers, 1 below the columns' names; an empty place says nothing."""
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True, restkey="")
    try:
        for number, row in enumerate(reader, 1):
            if row.get("") is not None:
                yield number, f"it has more places than the {len(reader.fieldnames or ())} columns"
            else:
                yield number, {name: value for name, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        raise DataError(f"{path} is not a table of comma-separated values ({error})") from error


def _jobs_of(number: int, row: Mapping[str, Any], shared: Mapping[str, Any], seen: dict[str, int]) -> list[Job]:
    if all(name in row for name in _OF_RECIPES):
        recipe = Recipe.from_dict(row)
        return [Job(row=number, options={}, recipe=recipe, digest=_digest(json.loads(recipe.to_json()), seen))]
    said: dict[str, Any] = {}
    count = 1
    for name, value in row.items():
        if value is None:
            continue
        if name.strip().lower() in ("number", "n"):
            count = NUMBER.take(value)
            continue
        field = find_field(name, "column", "number")
        said[field.name] = field.take(value)
    options = {**shared, **said}
    needed = options.get("guidance") != 0
    if needed and not str(options.get("prompt", "")).strip():
        raise OptionError("it has no prompt")
    options.setdefault("prompt", "")
    digest = _digest({**options, "number": count, "of files": _hashes(options)}, seen)
    # Where no seed is given it follows from the row, so that a run that goes on draws what the first would have drawn.
    seed = int(digest, 16) % DRAWN_SEEDS if options.get("seed") is None else options["seed"]
    variation = options.get("variation_seed")
    held = bool(plan_noise(None, variation, options.get("variation_strength"), None, None)["subseed_strength"])
    shots = plan_shots([options["prompt"]], count, seed, None, variation=variation, held=held, needed=needed)
    return [
        Job(
            row=number,
            options={**options, "seed": shot.seed, "variation_seed": shot.variation},
            recipe=None,
            digest=digest if place == 0 else hashlib.sha256(f"{digest} {place}".encode()).hexdigest(),
        )
        for place, shot in enumerate(shots)
    ]


def _digest(asked: Mapping[str, Any], seen: dict[str, int]) -> str:
    """The hash of what was asked for; of rows that ask for the same, each has its own."""
    text = json.dumps(asked, sort_keys=True, default=str)
    again = seen[text] = seen.get(text, 0) + 1
    return hashlib.sha256(text.encode() if again == 1 else f"{text} {again}".encode()).hexdigest()


def _digest_of(words: object) -> str:
    """The hash of a table of styles, or of lists for wildcards."""
    return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).hexdigest()


def _hashes(options: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of the pictures that are begun from, and of what goes into the prompts: another file of that name is another row."""
    from sfumato.text.prompts import read_lists, read_styles

    found: dict[str, str] = {}
    if options.get("style"):
        found["styles"] = _digest_of(read_styles(Path(options.get("styles") or STYLES)))
    if options.get("wildcards") is not None:
        found["wildcards"] = _digest_of(read_lists(Path(options["wildcards"])))
    for name in _PICTURES:
        if (path := options.get(name)) is not None:
            try:
                found[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except OSError as error:
                raise OptionError(f"can't read {fields()[name].title} {path}: {error.strerror or error}") from error
    return found
