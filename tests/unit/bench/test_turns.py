"""Who runs when: ours beside each peer, and what becomes of the order when somebody is missing."""

import pytest

from bench.measures import MEASURES, Measure, Pair, against, chosen, quick
from bench.turns import Turn, turns, wanted

PAIRS = (*against("ours", "a", "b"), Pair("ours-int8", "c"))


def order(pairs: tuple[Pair, ...], rounds: int, missing: set[str]) -> list[str]:
    return [turn.contender for turn in turns(pairs, rounds) if wanted(turn, pairs, missing)]


def test_ours_and_a_peer_run_side_by_side_and_change_places():
    assert order(PAIRS, 2, set()) == [
        "ours", "a", "ours", "b", "ours-int8", "c",
        "a", "ours", "b", "ours", "c", "ours-int8",
    ]  # fmt: skip
    assert list(turns(PAIRS, 2))[7] == Turn(1, 0, "ours")


def test_a_missing_peer_takes_ours_beside_it_along():
    assert order(PAIRS, 1, {"a"}) == ["ours", "b", "ours-int8", "c"]


def test_ours_runs_alone_when_every_peer_is_missing():
    assert order(PAIRS, 1, {"a", "b", "c"}) == ["ours", "ours-int8"]


def test_a_peer_is_measured_though_ours_is_missing():
    assert order(PAIRS, 1, {"ours-int8"}) == ["ours", "a", "ours", "b", "c"]


def test_nobody_is_left():
    assert order(PAIRS, 2, {"ours", "a", "b", "ours-int8", "c"}) == []


def test_without_a_peer_there_are_only_ours():
    assert order((Pair("ours"),), 3, set()) == ["ours"] * 3


def test_measures_have_names_of_their_own():
    assert len({one.name for one in MEASURES}) == len(MEASURES)


def test_a_measure_is_chosen_by_its_name_or_by_how_it_begins():
    assert [one.name for one in chosen(["unet"])] == ["unet-256", "unet-512"]
    assert [one.name for one in chosen(["unet-512", "import"])] == ["import", "unet-512"]
    assert [one.name for one in chosen(["requests-1"])] == ["requests-1"]
    assert chosen([]) == list(MEASURES)


def test_an_unknown_measure_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'unit'.*unet-512"):
        chosen(["unit"])


def test_a_quick_measure_is_small_and_taken_once():
    measure = Measure(name="m", title="", pairs=(), size=512, rounds=3, repeats=4, command=("--size", "512x512"))
    small = quick(measure)
    assert (small.size, small.rounds, small.repeats, small.command) == (128, 1, 1, ("--size", "128x128"))
