"""The vocabulary and the names of all concepts: every name belongs to one thing."""

import re
from collections import Counter

import pytest

from sfumato.errors import DataError
from sfumato.training.data.vocabulary import (
    Concept,
    Thing,
    plain_name,
    read_synonyms,
    read_vocabulary,
    things_of_all,
)

LOOKS = (
    re.compile(
        r"\b(red|green|blue|yellow|white|black|pink|purple|brown|gr[ae]y|flat|glossy|3d|little|small|big|large|tiny)\b"
    )
)  # fmt: skip


def test_the_packages_own_vocabulary():
    things = read_vocabulary()
    assert len(things) == 231
    assert sum(len(thing.names) >= 3 for thing in things) > 180
    by_name = {thing.cldr_name: thing.names for thing in things}
    assert {"dog face", "puppy"} <= set(by_name["dog face"])
    assert "puppy" not in by_name["dog"]
    synonyms = {name for thing in things for name in thing.names[1:] if name != thing.cldr_name}
    assert not [name for name in synonyms if LOOKS.search(name)], "a synonym says how the picture looks"


def test_synonyms_are_of_other_things_and_no_ones_name():
    listed, synonyms = read_vocabulary(), read_synonyms()
    assert len(synonyms) > 500
    assert not {thing.cldr_name for thing in listed} & {thing.cldr_name for thing in synonyms}
    names = Counter(name.lower() for thing in (*listed, *synonyms) for name in thing.names)
    assert not [name for name, count in names.items() if count > 1]


def test_all_concepts_are_named_and_no_name_is_given_twice():
    concepts = [Concept(name, 2) for name in ("mouse face", "mouse", "man red hair", "ox", "T-Rex", "truck")]
    listed = [Thing("mouse face", ("mouse face", "mouse", "Mousie")), Thing("T-Rex", ("t-rex", "dino"))]
    synonyms = [Thing("ox", ("bull", "dino", "truck")), Thing("truck", ("lorry",))]
    named = {thing.cldr_name: thing.names for thing in things_of_all(concepts, listed, synonyms)}
    assert named == {
        "mouse face": ("mouse face", "Mousie"),
        "mouse": ("mouse",),
        "man red hair": ("man with red hair",),
        "ox": ("ox", "bull"),
        "T-Rex": ("t-rex", "dino"),
        "truck": ("truck", "lorry"),
    }


def test_variants_of_other_concepts_are_not_taught():
    names = [
        "family",
        "family man, woman, boy",
        "kiss woman, man",
        "kiss mark",
        "man kneeling facing right",
        "man kneeling",
    ]
    things = things_of_all([Concept(name, 2) for name in names], [], [])
    assert [thing.cldr_name for thing in things] == ["family", "kiss mark", "man kneeling"]


def test_listed_thing_that_has_only_anothers_name_gets_its_own():
    concepts = [Concept("spouting whale", 2), Concept("whale", 2)]
    things = things_of_all(concepts, [Thing("spouting whale", ("whale",))], [])
    assert [thing.names for thing in things] == [("spouting whale",), ("whale",)]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("rocket", "rocket"),
        ("woman’s boot", "woman's boot"),
        ("Japanese “here” button", "japanese here button"),
        ("A button (blood type)", "a button blood type"),
        ("woman curly hair", "woman with curly hair"),
        ("man bald", "bald man"),
        ("kiss mark", "kiss mark"),
        ("keycap *", "keycap asterisk"),
    ],
)
def test_labels_become_phrases(label, name):
    assert plain_name(label) == name


@pytest.mark.parametrize("text", ["apple\napple\n", "apple: red,\n", "apple\npear: Apple\n"])
def test_bad_vocabularies_are_refused(tmp_path, text):
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"line [12] of"):
        read_vocabulary(path)


def test_vocabulary_that_can_not_be_read_is_said(tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_vocabulary(tmp_path / "none.txt")
