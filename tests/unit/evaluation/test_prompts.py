"""What is asked: the same every time, true of the art, and only what a model claims to know."""

import pytest

from sfumato.evaluation import KINDS, Repertoire, cases_of
from sfumato.evaluation.gallery import Entry
from sfumato.evaluation.prompts import GROUNDS
from sfumato.training.data.colours import OBJECT_COLOURS
from sfumato.training.data.scenes import is_held_out

THINGS = {
    "cat": ("cat", "pussy cat"),
    "red apple": ("red apple", "ripe apple"),
    "green apple": ("green apple",),
    "orange": ("orange", "tangerine"),
    "scissors": ("scissors", "shears"),
    **{f"thing {n}": (f"thing {n}", f"item {n}") for n in range(20)},
}
STYLES = ("3d", "flat", "noto")


@pytest.fixture(scope="module")
def repertoire() -> Repertoire:
    return Repertoire(
        tuple(
            Entry(
                thing=thing,
                style=style,
                split="held_out" if style == "noto" and number % 3 == 0 else "train",
                names=names,
                colours=OBJECT_COLOURS,
            )
            for number, (thing, names) in enumerate(THINGS.items())
            for style in STYLES
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_run_asks_what_a_shorter_one_asks_and_more(repertoire, kind):
    few, many = cases_of(kind, repertoire, 5, 7), cases_of(kind, repertoire, 8, 7)
    assert len(few) == 5
    assert many[:5] == few
    assert cases_of(kind, repertoire, 8, 8) != many
    assert [case.seed for case in few] == [7, 8, 9, 10, 11]
    assert all(case.prompt == case.prompt.lower() for case in few)


def test_pairs_name_thing_and_style(repertoire):
    trained = cases_of("trained", repertoire, 1000, 0)
    held_out = cases_of("held_out", repertoire, 1000, 0)
    assert len(trained) + len(held_out) == len(repertoire.entries)
    assert {case.art for case in trained}.isdisjoint(case.art for case in held_out)
    prompts = {case.prompt: case for case in trained}
    apple = prompts["a red apple, flat style"]
    assert (apple.answers, apple.style, apple.art) == (({"red apple"},), "flat", (("red apple", "flat"),))
    assert "an orange, 3d style" in prompts
    assert "scissors, 3d style" in prompts


def test_each_thing_comes_once_before_any_comes_again(repertoire):
    for kind in ("phrasings", "backgrounds", "two_things"):
        firsts = [case.art[0][0] for case in cases_of(kind, repertoire, len(THINGS), 0)]
        assert len(set(firsts)) == len(THINGS), kind


def test_phrasings_use_other_names(repertoire):
    said = " / ".join(case.prompt for case in cases_of("phrasings", repertoire, 60, 0))
    for word in ("pussy cat", "tangerine", "shears", "green apple"):
        assert word in said


def test_a_colour_replaces_the_one_in_the_name_and_fits_every_such_thing(repertoire):
    cases = cases_of("colours", repertoire, 1000, 0)
    apple = next(case for case in cases if case.art[0][0] == "red apple")
    assert apple.answers == (frozenset({"red apple", "green apple"}),)
    assert f"{apple.colour} apple" in apple.prompt
    assert all(is_held_out(case.art[0][0], case.colour or "") is False for case in cases)
    assert not any("green apple" in case.prompt for case in cases), "which is a thing of its own"
    unseen = cases_of("new_colours", repertoire, 1000, 0)
    assert unseen
    assert all(is_held_out(case.art[0][0], case.colour or "") for case in unseen)


def test_grounds_take_turns(repertoire):
    cases = cases_of("backgrounds", repertoire, len(GROUNDS), 0)
    assert [case.ground for case in cases] == list(GROUNDS)
    assert all(f"{case.ground} background" in case.prompt for case in cases)
    assert any(" on an orange background" in case.prompt for case in cases)


def test_two_things_are_of_one_style_and_half_have_a_place(repertoire):
    cases = cases_of("two_things", repertoire, 16, 0)
    for case in cases:
        (first, style), (second, other_style) = case.art
        assert first != second
        assert style == other_style
        assert case.style in (None, style)
    relations = [case.relation for case in cases]
    assert relations.count(None) == 8
    assert set(relations) == {None, "left of", "right of", "above", "below"}
    assert {(case.relation, case.style is None) for case in cases} >= {("above", True), ("above", False)}


def test_a_model_is_asked_only_for_what_it_knows(repertoire):
    known = repertoire.of_model(("flat",), ("Cat", "orange", "nonsense"))
    assert {(entry.thing, entry.style) for entry in known.entries} == {("cat", "flat"), ("orange", "flat")}
    assert cases_of("held_out", known, 10, 0) == []
    assert repertoire.of_model(None, None) == repertoire
