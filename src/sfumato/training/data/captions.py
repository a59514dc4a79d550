"""How people ask for a picture: what it shows, said in many wordings.

A caption is drawn from a small grammar: an opening nobody needs ("an icon of"), the subjects with their size and colour, where they stand,
the ground, and the style, most of them left out most of the time and in more than one order. What is said is always true of the picture.
"""

import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.training.data.colours import NAMES
from sfumato.training.data.plurals import STUFFS, is_plural, plural_of

Size = Literal["small", "big"]
Place = Literal[
    "left", "right", "top", "bottom", "top left corner", "top right corner", "bottom left corner", "bottom right corner"
]
Relation = Literal["left of", "right of", "above", "below"]

_DETERMINED = re.compile(r"(?:half|several|two|three|four|five|some|the) |.*\b(?:people|men|women|children)\b")
_MORE_OF_A_NAME = re.compile(r" (?:of|with|in|on|at|for|from|wearing|holding|by|out|over|under|hatching|without) ")
# Said with a vowel though not written with one, and the reverse.
_SAID_WITH_A_VOWEL = re.compile(r"[ai]|o(?!ne\b)|e(?!u|we)|u(?!ni|fo\b|ku|s[be]|r[ai])|hour|honest|heir|x-|8|11\b|18\b")
_COLOUR_WORDS = re.compile(rf"\b(?:{'|'.join(NAMES)}|grey)(?:-\w+)?\b ?")
_STYLE_AFTER = (", {} style", ", {} style", ", {}", " in {} style", " in the {} style", " {} style")
# Many, or whatever else is said around a thing is taken to mean something.
_OPENINGS = (
    "a picture of {}", "an icon of {}", "a drawing of {}", "an image of {}", "a sticker of {}", "an illustration of {}", "a photo of {}",
    "an emoji of {}", "picture of {}", "icon of {}", "drawing of {}", "please draw {}", "draw {}", "this is {}", "{} icon", "{} emoji",
    "{} sticker", "i want {}", "show me {}", "give me {}", "make {}", "make me {}", "generate {}", "create {}", "could you draw {}",
    "can you paint {}", "paint {}", "{} please", "{}, thanks", "a cartoon of {}", "a sketch of {}", "{} clipart", "{} graphic", "{} symbol",
    "{} drawing", "{} picture", "here is {}", "there is {}", "just {}", "{} for my website", "{} for kids", "a logo with {}", "a view of {}",
    "an example of {}", "something like {}", "a nice picture of {}", "a good drawing of {}", "design {}", "a poster of {}", "a painting of {}",
    "hello, {}", "{}!", "{}.",
)  # fmt: skip
_PRAISE = ("cute ", "nice ", "beautiful ", "lovely ", "funny ", "simple ")
_SIZES: dict[Size, tuple[str, ...]] = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge")}
_COUNTS: dict[int, tuple[str, ...]] = {
    1: ("one ", "one ", "a single "),
    2: ("two ", "two ", "2 ", "a pair of ", "a couple of "),
    3: ("three ", "three ", "3 ", "a few ", "some ", "several "),
    4: ("four ", "four ", "4 ", "a few ", "some ", "several "),
}
_PLAIN = "white"
_ARTICLES = ("a", "an")
_GREYS = ("gray", "grey")
SHADES = ("light", "dark")
"""What a ground's colour may be called besides."""
_GROUNDS = (
    " on a {} background", " on a {} background", ", {} background", " with a {} background", " against a {} background", " on {}",
    " in front of a {} background",
)  # fmt: skip
_PLACES: dict[Place, tuple[str, ...]] = {
    "left": (" on the left", " on the left side", " at the left"),
    "right": (" on the right", " on the right side", " at the right"),
    "top": (" at the top", " on top"),
    "bottom": (" at the bottom",),
    "top left corner": (" in the top left corner", " in the upper left corner", " in the top left"),
    "top right corner": (" in the top right corner", " in the upper right corner", " in the top right"),
    "bottom left corner": (" in the bottom left corner", " in the lower left corner", " in the bottom left"),
    "bottom right corner": (" in the bottom right corner", " in the lower right corner", " in the bottom right"),
}
_RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left of": ("{} to the left of {}", "{} left of {}", "{} on the left of {}"),
    "right of": ("{} to the right of {}", "{} right of {}", "{} on the right of {}"),
    "above": ("{} above {}", "{} over {}"),
    "below": ("{} below {}", "{} under {}", "{} beneath {}"),
}
_AND = " and "
_BESIDE = ("{} next to {}", "{} with {}", "{} beside {}", "{}, {}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One thing of a scene: the names it goes by, the words that go with it, and what is to be seen of it.

    `recoloured` says that the colour is not the art's own: then the caption always names it. With a `count` above 1 there are so many of it,
    all alike, and one of its names at least has a plural.
    """

    names: tuple[str, ...]
    style: str
    keywords: tuple[str, ...] = ()
    colour: str | None = None
    recoloured: bool = False
    size: Size | None = None
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a picture shows: its subjects, how the first stands to the second or where it is placed, and the ground (None: plain white)."""

    subjects: tuple[Subject, ...]
    relation: Relation | None = None
    place: Place | None = None
    ground: str | None = None


def with_article(name: str) -> str:
    """The name as a noun phrase: "an apple", "a slice of pizza", "a face with sunglasses", "scissors"."""
    thing = _MORE_OF_A_NAME.split(name)[0]
    head = thing.split()[-1]
    if is_plural(head) or head in STUFFS or _DETERMINED.match(f"{thing} "):
        return name
    return f"{_ARTICLES[bool(_SAID_WITH_A_VOWEL.match(name))]} {name}"


def without_colour(name: str) -> str:
    """The name less its colour words, where something is left: "red apple" → "apple", "orange" → "orange"."""
    return _COLOUR_WORDS.sub("", name).strip() or name


def plurals_of(names: Sequence[str]) -> tuple[str, ...]:
    """The plurals of those names that have one, in lower case."""
    return tuple(filter(None, (plural_of(name.lower()) for name in names)))


def _name(subject: Subject, rng: random.Random) -> str:
    names = subject.names if subject.count == 1 else plurals_of(subject.names)
    # The first name is the one that is listed for people.
    name = names[0] if rng.random() < 0.45 else rng.choice(names)
    return without_colour(name.lower()) if subject.recoloured else name.lower()


def _noun_phrase(subject: Subject, rng: random.Random, *, adjective: str = "", always_article: bool = False) -> str:
    words = [adjective] if adjective else []
    if subject.size:
        words.append(rng.choice(_SIZES[subject.size]))
    name = _name(subject, rng)
    # A name with a colour says enough of a drawing's own: measured, a red apple may be brown. What was recoloured is always said.
    says_colour = subject.colour not in name.split() if subject.recoloured else not _COLOUR_WORDS.search(name)
    if subject.colour and says_colour and (subject.recoloured or rng.random() < 0.25):
        words.append(_GREYS[1] if subject.colour == _GREYS[0] and rng.random() < 0.5 else subject.colour)
    phrase = " ".join([*words, name])
    if subject.count > 1:
        # A plural alone says that there is more than one.
        return f"{rng.choice(_COUNTS[subject.count])}{phrase}" if rng.random() < 0.75 else phrase
    said = with_article(phrase)
    # Where there may be two or three, that there is one is said now and then.
    if said != phrase and rng.random() < 0.04:
        return f"{rng.choice(_COUNTS[1])}{phrase}"
    return said if always_article or rng.random() < 0.6 else phrase


def _keywords(subject: Subject) -> list[str]:
    """The keywords that hold of what is seen: those that name a colour may not."""
    return [word for word in subject.keywords if not (subject.recoloured and _COLOUR_WORDS.search(word))]


def _style_words(style: str, rng: random.Random) -> tuple[str, str]:
    """The style as an adjective before the subject, or as a phrase at the end; both empty where it is not named."""
    if rng.random() < 0.3:
        return "", ""
    if rng.random() < 0.15:
        return style, ""
    return "", rng.choice(_STYLE_AFTER).format(style)


def caption(scene: Description, rng: random.Random) -> str:
    """One wording of what the picture shows."""
    first, *others = scene.subjects
    before, after = _style_words(first.style, rng)
    if others:
        phrases = [_noun_phrase(first, rng, adjective=before, always_article=True)]
        phrases += [_noun_phrase(other, rng, always_article=True) for other in others]
        # Side by side is what "a and b" makes people think of; one above the other is always said.
        if scene.relation and (scene.relation in ("above", "below") or rng.random() < 0.6):
            said = rng.choice(_RELATIONS[scene.relation]).format(*phrases)
        elif rng.random() < 0.7 or not scene.relation:
            # Nothing is said of the order, so either may come first.
            said = _AND.join(phrases if scene.relation or rng.random() < 0.5 else phrases[::-1])
        else:
            said = rng.choice(_BESIDE).format(*phrases)
    else:
        praise = rng.choice(_PRAISE).strip() if rng.random() < 0.06 else ""
        said = _noun_phrase(first, rng, adjective=" ".join(filter(None, (praise, before))))
        keywords = _keywords(first)
        if keywords and rng.random() < 0.06:
            said += ", " + ", ".join(rng.sample(keywords, min(len(keywords), rng.randint(1, 2))))
    if scene.place:
        said += rng.choice(_PLACES[scene.place])
    if rng.random() < 0.25:
        said = rng.choice(_OPENINGS).format(said)
    ground = ""
    if scene.ground:
        ground = re.sub(r"\ba (?=[aeiou])", "an ", rng.choice(_GROUNDS).format(scene.ground))
    elif rng.random() < 0.06:
        ground = rng.choice(_GROUNDS).format(_PLAIN)
    return said + (after + ground if rng.random() < 0.35 else ground + after)


def possible_words(names: Iterable[str], keywords: Iterable[str], styles: Iterable[str]) -> frozenset[str]:
    """Every word, less its commas, that a caption may hold of things of these names, keywords and styles, whatever is drawn of the grammar."""
    known = {name.lower() for name in names}
    templates = [
        *_STYLE_AFTER, *_OPENINGS, *_PRAISE, *itertools.chain(*_SIZES.values()), *_GROUNDS, *itertools.chain(*_PLACES.values()),
        *itertools.chain(*_RELATIONS.values()), *_BESIDE, _AND, *itertools.chain(*_COUNTS.values()),
    ]  # fmt: skip
    said = [*_ARTICLES, *NAMES, *_GREYS, *SHADES, _PLAIN, *styles, *keywords, *known, *plurals_of(sorted(known))]
    words = (text.replace("{}", " ").replace(",", " ") for text in (*templates, *said))
    return frozenset({",", *itertools.chain(*(text.split() for text in words))})
