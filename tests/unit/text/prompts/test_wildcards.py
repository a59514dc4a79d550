"""Wildcards: prompts that are many."""

from collections import Counter
from pathlib import Path

import pytest

from sfumato.errors import MissingFileError
from sfumato.text.prompts import expand_wildcards, read_lists

SEEDS = range(300)


def drawn(text: str, lists: dict[str, list[str]] | None = None) -> Counter[str]:
    return Counter(expand_wildcards(text, seed, lists) for seed in SEEDS)


def test_one_of_them_is_drawn_and_always_the_same_by_the_same_seed() -> None:
    found = drawn("a {red|green|} apple")
    assert found.keys() == {"a red apple", "a green apple", "a  apple"}
    assert min(found.values()) > 60
    assert drawn("a {red|green|} apple") == found


def test_weights_say_how_often() -> None:
    found = drawn("{3::a|b|0::c}")
    assert found.keys() == {"a", "b"}
    assert 180 < found["a"] < 270
    assert drawn("{0::a|0::b}").keys() == {"a", "b"}


def test_some_of_them_are_drawn_none_twice() -> None:
    assert drawn("{2$$a|b|c}").keys() == {"a, b", "a, c", "b, a", "b, c", "c, a", "c, b"}
    assert drawn("{1-2$$ and $$a|b}").keys() == {"a", "b", "a and b", "b and a"}
    assert drawn("{9$$a|b}").keys() == {"a, b", "b, a"}
    assert drawn("{0$$a|b}").keys() == {""}
    assert drawn("{2$$3::a|b}").keys() == {"a, b", "b, a"}


def test_choices_hold_choices() -> None:
    assert drawn("{a {b|c}|d}").keys() == {"a b", "a c", "d"}


def test_lists_are_read_by_name_and_by_pattern() -> None:
    lists = {"fish": ["eel", "{big|small} cod"], "sea/bird": ["gull"], "sea/mammal": ["seal"]}
    assert drawn("__fish__", lists).keys() == {"eel", "big cod", "small cod"}
    assert drawn("a __sea/*__!", lists).keys() == {"a gull!", "a seal!"}
    assert drawn("__a list of no name__ x__y", lists).keys() == {"__a list of no name__ x__y"}


def test_a_list_that_names_itself_ends() -> None:
    assert expand_wildcards("__a__", 1, {"a": ["__a__ __a__"]}).count("__a__") > 1


@pytest.mark.parametrize("text", ["a {b} c", "{", "}", "a|b", "{a|b", "__", "____", "_a_", "{{a}", "snake_case__name"])
def test_what_is_no_wildcard_is_text(text: str) -> None:
    assert expand_wildcards(text, 1) == text


def test_escapes_are_text() -> None:
    assert expand_wildcards(r"\{a|b\} \__c\__ \(d\)", 1, {"c": ["no"]}) == r"{a|b} __c__ \(d\)"


def test_lists_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sea").mkdir()
    (tmp_path / "sea/fish.txt").write_text("# fish\n eel \n\ncod\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("nothing", encoding="utf-8")
    assert read_lists(tmp_path) == {"sea/fish": ["eel", "cod"]}
    with pytest.raises(MissingFileError, match="no folder"):
        read_lists(tmp_path / "none")
