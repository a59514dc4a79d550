from pathlib import Path

import pytest

from sfumato.cli.app import run
from sfumato.cli.drawing import _renumbered
from sfumato.cli.generate import plan_shots
from sfumato.errors import OptionError, PromptError


def plan(
    *prompts: str, number: int = 1, seed: int | None = 5, grid: tuple[int, int] | None = None
) -> list[tuple[str, int]]:
    return [(shot.prompt, shot.seed) for shot in plan_shots(prompts, number, seed, grid)]


def test_seeds_count_up_over_all_pictures() -> None:
    assert plan("cat", "dog", number=2) == [("cat", 5), ("cat", 6), ("dog", 7), ("dog", 8)]
    assert plan("cat", number=2, seed=2**64 - 1) == [("cat", 2**64 - 1), ("cat", 0)]


def test_a_seed_is_drawn_when_none_is_given() -> None:
    first, second = plan_shots(["cat"], 2, None, None)
    assert second.seed == first.seed + 1
    assert {plan_shots(["cat"], 1, None, None)[0].seed for _ in range(20)} != {first.seed}


def test_a_grid_says_how_many() -> None:
    assert len(plan("cat", grid=(2, 3))) == 6
    assert [prompt for prompt, _ in plan("cat", "dog", grid=(2, 2))] == ["cat", "cat", "dog", "dog"]
    assert len(plan("cat", number=4, grid=(2, 2))) == 4


def test_refused() -> None:
    for prompts in ([], [""], ["cat", " "]):
        with pytest.raises(PromptError, match="no prompt"):
            plan(*prompts)
    assert [shot.stem for shot in plan_shots([""], 1, 3, None, needed=False)] == ["picture-3"]
    with pytest.raises(OptionError, match="expected 1 or more"):
        plan("cat", number=0)
    for seed in (-1, 2**64):
        with pytest.raises(OptionError, match=f"the seed is {seed}; expected a whole number from 0 to"):
            plan("cat", seed=seed)
    with pytest.raises(OptionError, match="change -n or --grid"):
        plan("cat", number=3, grid=(2, 2))


def test_notes_are_numbered_over_the_run() -> None:
    assert _renumbered("image 1: blocked", 3, of=8) == "picture 4: blocked"
    assert _renumbered("image 2 failed: NaN", 3, of=8) == "picture 5: failed: NaN"
    assert _renumbered("image 1: blocked", 0, of=1) == "blocked"
    assert _renumbered("the prompt was cut", 3, of=8) == "the prompt was cut"


def test_variations_keep_the_seed_and_count_the_other_up() -> None:
    shots = plan_shots(["apple"], 3, 7, None, variation=2**64 - 1, held=True)
    assert [(shot.seed, shot.variation) for shot in shots] == [(7, 2**64 - 1), (7, 0), (7, 1)]
    assert len({shot.stem for shot in shots}) == 3
    shots = plan_shots(["apple"], 2, 7, None, variation=5)
    assert [(shot.seed, shot.variation) for shot in shots] == [(7, 5), (8, 6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variation-strength", "0.5"], "--variation-seed"),
        (["--variation-seed", "-1"], "variation seed"),
        (["--variation-seed", "1", "--variation-strength", "2"], "from 0 to 1"),
        (["--seed-resize", "big"], "WIDTHxHEIGHT"),
        (["--rng", "dice"], "'nv:CARD'"),
        (["--rng", "nv:t44"], "did you mean t4"),
    ],
)
def test_options_on_noise_that_can_t_be(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "apple", "--out", str(tmp_path / "a.png"), "--steps", "1", *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
