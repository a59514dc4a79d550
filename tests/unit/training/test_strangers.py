"""Strange words stand around what a caption says, which stays whole."""

import random

import pytest

from sfumato.text.words import KnownWords
from sfumato.training.data.strangers import Strangers

STRANGERS = Strangers(fillers=("very",), others=("qqq", "zzz"))
STRANGE = {"very", "qqq", "zzz"}


@pytest.fixture(scope="module")
def strangers() -> Strangers:
    return Strangers.to(
        ["a", "cat", "t-shirt,", "red", "cherries", "like", "camera"], ["Cat", "cherries", "movie camera"]
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
    assert "like" in strangers.fillers
    assert "like" not in strangers.others


@pytest.mark.parametrize(
    "text",
    ["an orange cat, flat style", "the teddy bear", "a cat", "cat", "hello, a cat and a red dog on blue, 3d style"],
)
def test_a_caption_keeps_its_words_in_order_and_together(text):
    places, counts = set(), set()
    for number in range(300):
        said = STRANGERS.among(text, random.Random(number))
        words = said.replace(",", " ,").split()
        assert [word for word in words if word not in STRANGE] == text.replace(",", " ,").split()
        assert "  " not in said
        assert " ," not in said
        assert said == said.strip()
        counts.add(len(words) - len(text.replace(",", " ,").split()))
        # Only after an article, before a comma, and at either end: a name of two words is never parted.
        gaps = [i for i, word in enumerate(words) if word in STRANGE and words[i - 1 : i] != words[i : i + 1]]
        places.update(gaps)
        assert "teddy bear" in said or "teddy" not in text
        assert "red dog" in said or "dog" not in text
    assert counts == {1, 2, 3}
    assert 0 in places


def test_the_same_chance_gives_the_same_words():
    said = [STRANGERS.among("a cat, flat style", random.Random(3)) for _ in range(2)]
    assert said[0] == said[1]
