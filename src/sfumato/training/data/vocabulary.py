"""The vocabulary: which things the model is taught, and what people call them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from sfumato.errors import DataError

_PACKAGE = "sfumato.training.data"


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing the model is taught: the CLDR name that finds its drawings, and what people call it (the listed name first)."""

    cldr_name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that can be drawn: its CLDR name, and how many styles draw it."""

    name: str
    styles: int


def read_synonyms() -> tuple[Thing, ...]:
    """What concepts outside the vocabulary are called beside their CLDR names (synonyms.txt)."""
    with as_file(files(_PACKAGE).joinpath("synonyms.txt")) as path:
        return read_vocabulary(path)


def read_vocabulary(path: Path | None = None) -> tuple[Thing, ...]:
    """The things of a vocabulary file (the package's own when no path is given), in its order.

    Raises DataError for a file that can't be read, an empty line of names, a thing listed twice, or one name for two things.
    """
    try:
        text = (path or files(_PACKAGE).joinpath("vocabulary.txt")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the vocabulary can't be read: {error}.") from error
    things: dict[str, Thing] = {}
    named: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cldr_name, _, called = (part.strip() for part in line.partition(":"))
        names = tuple(dict.fromkeys(name.strip() for name in called.split(","))) if called else (cldr_name,)
        if not all(names) or cldr_name in things:
            raise DataError(
                f"line {number} of the vocabulary ({line!r}) has an empty name or lists a thing twice; mend it."
            )
        for name in names:
            other = named.setdefault(name.lower(), cldr_name)
            if other != cldr_name:
                raise DataError(
                    f"line {number} of the vocabulary calls {cldr_name} {name!r}, and so does {other}; leave one of them."
                )
        things[cldr_name] = Thing(cldr_name, names)
    return tuple(things.values())


def plain_name(label: str) -> str:
    """A CLDR name as people write it: "man red hair" → "man with red hair", "Japanese “here” button" → "japanese here button"."""
    plain = re.sub("[“”()]", "", label).replace("’", "'").lower()
    for pattern, said in _SAID:
        if match := re.fullmatch(pattern, plain):
            return said(match)
    return plain


# The CLDR names of persons and keys are lists of features, not phrases.
_SAID: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"(man|woman|person) (beard|(?:red|curly|white|blond) hair)", lambda m: f"{m[1]} with {m[2]}"),
    (r"(man|woman|person) bald", lambda m: f"bald {m[1]}"),
    (r"keycap #", lambda _: "keycap hash"),
    (r"keycap \*", lambda _: "keycap asterisk"),
)

# Forty families, kisses and couples by who they are of, which many sets draw alike, and what only looks the other way.
_VARIANT = re.compile(r"(?:family|kiss|couple with heart) \w+, .+|.+ facing right")


def things_of_all(concepts: Sequence[Concept], listed: Sequence[Thing], synonyms: Sequence[Thing]) -> tuple[Thing, ...]:
    """Every concept as a thing, under its listed names where it has some, else its CLDR name and synonyms; no mere variants of others.

    No name is given to two: a concept's own CLDR name is stronger than another's listed name, and that than a synonym.
    """
    labels = {c.name: plain_name(c.name) for c in concepts if not _VARIANT.fullmatch(c.name)}
    own = set(labels.values())
    written = {thing.cldr_name: thing.names for thing in listed}
    more = {plain_name(thing.cldr_name): thing.names for thing in synonyms}
    taken = own | {name.lower() for names in written.values() for name in names}
    things: list[Thing] = []
    for name, label in labels.items():
        if name in written:
            fitting = tuple(n for n in written[name] if n.lower() == label or n.lower() not in own)
            things.append(Thing(name, fitting or (label,)))
        else:
            things.append(Thing(name, (label, *(n for n in more.get(label, ()) if n not in taken))))
    return tuple(things)
