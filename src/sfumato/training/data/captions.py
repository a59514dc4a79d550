"""The vocabulary, and the words its things are asked for with: short, plain and varied."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sfumato.errors import DataError

# What follows the thing where the style is named; people write it every one of these ways.
_STYLE_PHRASES = (", {} style", " in {} style", ", {}", " {} style")
# Names that take no article: plurals, pairs and stuffs.
_WITHOUT_ARTICLE = frozenset(
    "grapes cherries blueberries pancakes jeans glasses sunglasses scissors books headphones poop saturn pizza tennis coffee beer cheese "
    "bread broccoli garlic popcorn sushi candy honey fire lightning chocolate corn fries dice swords burgers earth halloween".split()
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
        text = (path or files(__package__).joinpath("vocabulary.txt")).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"the vocabulary can't be read: {error}.") from error
    things: dict[str, Thing] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cldr_name, _, called = (part.strip() for part in line.partition(":"))
        names = tuple(name.strip() for name in called.split(",")) if called else (cldr_name,)
        if not all(names) or cldr_name in things:
            raise DataError(f"line {number} of the vocabulary ({line!r}) has an empty name or lists a thing twice; mend it.")
        things[cldr_name] = Thing(cldr_name, names)
    return tuple(things.values())


def with_article(name: str) -> str:
    """The name as a noun phrase: "an apple", "a rocket", "scissors"."""
    if _WITHOUT_ARTICLE.intersection(name.split()[-2:]) or name.split()[0] in _WITHOUT_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' and not name.startswith(('eu', 'uni', 'ufo')) else 'a'} {name}"


def captions_for(thing: Thing, style: str) -> list[str]:
    """Every caption of one drawing, plain ones first: with and without article, style named or not.

    "red apple, 3d style", "a red apple, 3d style", "a red apple in 3d style", "red apple", …, then the same for each other name.
    """
    captions: list[str] = []
    for name in thing.names:
        for subject in dict.fromkeys((name.lower(), with_article(name.lower()))):
            captions.append(subject)
            captions.extend(subject + phrase.format(style) for phrase in _STYLE_PHRASES)
    return captions
