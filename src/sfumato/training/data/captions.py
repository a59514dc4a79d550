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
# These say no number, so no number is what they say plainly.
_FEW = frozenset({"a few ", "some ", "several "})
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


@dataclass(frozen=True, slots=True)
class _Wording:
    """Chance, as it words a caption. The plain wording of the same chance takes the first of all that says the same, and leaves out the rest.

    What is drawn never depends on whether it is plain, or the two would not say the same.
    """

    rng: random.Random
    plain: bool

    def chance(self, share: float) -> bool:
        """Whether something is said."""
        return self.rng.random() < share

    def whim(self, share: float) -> bool:
        """Whether something is said that says nothing more, or nothing less."""
        return self.chance(share) and not self.plain

    def pick(self, ways: Sequence[str]) -> str:
        """One of several ways to say the same."""
        way = self.rng.choice(ways)
        return ways[0] if self.plain else way


def _name(subject: Subject, wording: _Wording) -> str:
    names = subject.names if subject.count == 1 else plurals_of(subject.names)
    # The first name is the one that is listed for people.
    other = wording.pick(names)
    name = (other if wording.whim(0.55) else names[0]).lower()
    return without_colour(name) if subject.recoloured else name


def _noun_phrase(subject: Subject, wording: _Wording, *, adjective: str = "", always_article: bool = False) -> str:
    name = _name(subject, wording)
    words = [adjective] if adjective else []
    if subject.size:
        words.append(wording.pick(_SIZES[subject.size]))
    colour = wording.pick(_GREYS) if subject.colour == _GREYS[0] else subject.colour
    # A name with a colour says enough of a drawing's own: measured, a red apple may be brown. What was recoloured is always said.
    says_colour = (
        subject.colour not in name.split()
        if subject.recoloured
        else not any(_COLOUR_WORDS.search(each.lower()) for each in subject.names)
    )
    if colour and (wording.chance(0.25) or subject.recoloured) and says_colour:
        words.append(colour)
    phrase = " ".join([*words, name])
    if subject.count > 1:
        # A plural alone says that there is more than one.
        drawn = wording.rng.choice(_COUNTS[subject.count])
        counted = _COUNTS[subject.count][0] if wording.plain and drawn not in _FEW else drawn
        return f"{counted}{phrase}" if wording.chance(0.75) else phrase
    said = with_article(phrase)
    # Where there may be two or three, that there is one is said now and then.
    single, bare, one = wording.whim(0.04), wording.whim(0.4), wording.pick(_COUNTS[1])
    if said != phrase and single:
        return f"{one}{phrase}"
    return phrase if bare and not always_article else said


def _keywords(subject: Subject) -> list[str]:
    """The keywords that hold of what is seen: those that name a colour may not."""
    return [word for word in subject.keywords if not _COLOUR_WORDS.search(word)]


def _style_words(style: str, wording: _Wording) -> tuple[str, str]:
    """The style as an adjective before the subject, or as a phrase at the end; both empty where it is not named."""
    named, before, after = wording.chance(0.7), wording.whim(0.15), wording.pick(_STYLE_AFTER)
    if not named:
        return "", ""
    return (style, "") if before else ("", after.format(style))


def caption(scene: Description, rng: random.Random, *, plain: bool = False) -> str:
    """One wording of what the picture shows.

    `plain` is, for the same chance, the plainest caption that says the same: the listed name, the commonest words for style, size, place and
    ground, and nothing that says nothing.
    """
    wording = _Wording(rng, plain)
    first, *others = scene.subjects
    before, after = _style_words(first.style, wording)
    if others:
        phrases = [_noun_phrase(first, wording, adjective=before, always_article=True)]
        phrases += [_noun_phrase(other, wording, always_article=True) for other in others]
        # Side by side is what "a and b" makes people think of; one above the other is always said.
        if scene.relation and (scene.relation in ("above", "below") or wording.chance(0.6)):
            said = wording.pick(_RELATIONS[scene.relation]).format(*phrases)
        elif wording.chance(0.7) or not scene.relation:
            # Nothing is said of the order, so either may come first.
            said = _AND.join(phrases if scene.relation or wording.chance(0.5) else phrases[::-1])
        else:
            beside = wording.pick(_BESIDE)
            said = _AND.join(phrases) if plain else beside.format(*phrases)
    else:
        praise = wording.pick(_PRAISE).strip() if wording.chance(0.06) else ""
        said = _noun_phrase(first, wording, adjective=" ".join(filter(None, ("" if plain else praise, before))))
        keywords = _keywords(first)
        if keywords and wording.chance(0.06):
            some = rng.sample(keywords, min(len(keywords), rng.randint(1, 2)))
            said += "" if plain else ", " + ", ".join(some)
    if scene.place:
        said += wording.pick(_PLACES[scene.place])
    opening = wording.pick(_OPENINGS)
    if wording.whim(0.25):
        said = opening.format(said)
    ground = wording.pick(_GROUNDS)
    if scene.ground:
        ground = re.sub(r"\ba (?=[aeiou])", "an ", ground.format(scene.ground))
    else:
        ground = ground.format(_PLAIN) if wording.whim(0.06) else ""
    return said + (after + ground if wording.whim(0.35) else ground + after)


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
