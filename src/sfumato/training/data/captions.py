"""The vocabulary, and the words its things are asked for with: short, plain and varied."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sfumato.errors import DataError

# What follows the thing where the style is named; people write it every one of these ways.
_STYLE_PHRASES = (", {} style", " in {} style", ", {}", " {} style")
# Last words of names that take no article: plurals and stuffs.
_WITHOUT_ARTICLE = frozenset(
    {
        *(
            "blueberries",
            "books",
            "bread",
            "broccoli",
            "cherries",
            "corn",
            "earth",
            "fire",
            "fries",
            "garlic",
            "glasses",
            "grapes",
        ),
        *(
            "headphones",
            "honey",
            "jeans",
            "lightning",
            "pancakes",
            "poop",
            "popcorn",
            "saturn",
            "scissors",
            "sunglasses",
            "sushi",
        ),
        *("swords", "tennis"),
    }
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing the model is taught: the CLDR name that finds its drawings, and what people call it (the listed name first)."""

    cldr_name: str
    names: tuple[str, ...]


def read_vocabulary(path: Path | None = None) -> tuple[Thing, ...]:
    """The things of a vocabulary file (the package's own when no path is given), in its order.

    Raises DataError for a file that can't be read, an empty line of names, or a thing listed twice.
    """
    try:
        text = (path or files("sfumato.training.data").joinpath("vocabulary.txt")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the vocabulary can't be read: {error}.") from error
    things: dict[str, Thing] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cldr_name, _, called = (part.strip() for part in line.partition(":"))
        names = tuple(name.strip() for name in called.split(",")) if called else (cldr_name,)
        if not all(names) or cldr_name in things:
            raise DataError(
                f"line {number} of the vocabulary ({line!r}) has an empty name or lists a thing twice; mend it."
            )
        things[cldr_name] = Thing(cldr_name, names)
    return tuple(things.values())


def with_article(name: str) -> str:
    """The name as a noun phrase: "an apple", "a slice of pizza", "a face with sunglasses", "scissors"."""
    head = re.split(" (?:of|with) ", name)[0].split()[-1]
    if head in _WITHOUT_ARTICLE:
        return name
    vowel = name.startswith("hour") or (name[0] in "aeiou" and not name.startswith(("eu", "uni", "ufo")))
    return f"{'an' if vowel else 'a'} {name}"


def captions_for(thing: Thing, style: str) -> list[str]:
    """Every caption of one drawing, for each name: with and without article, style named in one of several ways or not at all.

    "red apple", "red apple, 3d style", "red apple in 3d style", …, "3d red apple", "a red apple", "a red apple, 3d style", …
    """
    captions: list[str] = []
    for name in (name.lower() for name in thing.names):
        for subject, styled in ((name, f"{style} {name}"), (with_article(name), with_article(f"{style} {name}"))):
            captions.extend((subject, *(subject + phrase.format(style) for phrase in _STYLE_PHRASES), styled))
    return list(dict.fromkeys(captions))
