"""The vocabulary: which things the model is taught, and what people call them."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sfumato.errors import DataError


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing the model is taught: the CLDR name that finds its drawings, and what people call it (the listed name first)."""

    cldr_name: str
    names: tuple[str, ...]


def read_vocabulary(path: Path | None = None) -> tuple[Thing, ...]:
    """The things of a vocabulary file (the package's own when no path is given), in its order.

    Raises DataError for a file that can't be read, an empty line of names, a thing listed twice, or one name for two things.
    """
    try:
        text = (path or files("sfumato.training.data").joinpath("vocabulary.txt")).read_text(encoding="utf-8")
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
