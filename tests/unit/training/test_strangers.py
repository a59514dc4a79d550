"""Strange words stand around what a caption says, which stays whole."""

import random
import re

import pytest

from sfumato.evaluation.prompts import PHRASINGS
from sfumato.text.words import KnownWords
from sfumato.training.data.captions import possible_words
from sfumato.training.data.strangers import Strangers

STRANGERS = Strangers(fillers=("very",), others=("qqq", "zzz"))
STRANGE = {"very", "qqq", "zzz"}


@pytest.fixture(scope="module")
def strangers() -> Strangers:
    return Strangers.to(
        ["a", "cat", "t-shirt,", "red", "cherries", "love", "camera"], ["Cat", "cherries", "movie camera"]
    )


def test_they_are_words_that_the_model_does_not_know(strangers):
    known = KnownWords(frozenset({"a", "cat", "t-shirt", "red", "cherries"}))
    assert len(strangers.others) > 20_000
    assert list(strangers.others) == sorted(set(strangers.others))
    assert not any(word in known for word in strangers.others)
    assert "village" in strangers.others


@pytest.mark.parametrize("word", ["cat", "cats", "shirt", "cherry", "a", "of"])
def test_known_words_and_their_plurals_and_short_ones_are_not_among_them(strangers, word):
    assert word not in strangers.others


def test_what_is_in_a_name_is_no_filler_and_a_keyword_may_be_one(strangers):
    assert len(strangers.fillers) == len(set(strangers.fillers)) > 200
    assert "camera" not in strangers.fillers
    assert "love" in strangers.fillers
    assert "love" not in strangers.others


@pytest.mark.parametrize("word", ["crimson", "dozen", "inside", "enormous"])
def test_what_says_something_is_not_among_them_though_nobody_taught_it(strangers, word):
    assert word not in strangers.others
    assert word not in strangers.fillers


def test_the_wordings_that_only_the_evaluation_has_stay_unknown(strangers):
    held_out = set(" ".join(PHRASINGS).format(n="", a="").split()) - possible_words((), (), ())
    assert {"favourite", "isolated", "clip"} <= held_out
    assert not held_out & set(strangers.fillers)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            "a teddy bear, flat style",
            ["{} a teddy bear, flat style", "a {} teddy bear, flat style", "a teddy bear {}, flat style"],
        ),
        ("an owl", ["{} an owl", "an {} owl"]),
        ("the red owl", ["{} the red owl", "the {} red owl"]),
        ("owls on blue", ["{} owls on blue"]),
    ],
)
def test_they_stand_around_names_and_never_within(text, places):
    said = {STRANGERS.among(text, random.Random(number)) for number in range(600)}
    marked = [re.sub("|".join(STRANGE), "{}", one) for one in said]
    assert {one for one in marked if one.count("{}") == 1} == {*places, f"{text} {{}}"}
    for one in said:
        words = [word for word in one.replace(",", " ,").split() if word not in STRANGE]
        assert words == text.replace(",", " ,").split()
        assert not re.search(r"  | ,|^ | $", one)


def test_there_are_one_to_three():
    said = [STRANGERS.among("owl", random.Random(number)).split() for number in range(100)]
    assert {len(words) - 1 for words in said} == {1, 2, 3}


def test_the_same_chance_gives_the_same_words():
    said = [STRANGERS.among("a cat, flat style", random.Random(3)) for _ in range(2)]
    assert said[0] == said[1]
