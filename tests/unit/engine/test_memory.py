"""Budgets as people write them, what is predicted, what is chosen, and what happens when memory runs out all the same."""

from typing import Any

import pytest
import torch
from tiny_engine import job, network
from torch import Tensor

from sfumato.engine import Engine, ImageDone, ImageFailed
from sfumato.engine.memory import LADDER, Budget, Economy, Measures, Sizes, choose, ladder_of, parse_budget, predict
from sfumato.errors import EvaluationError, OptionError
from sfumato.variants import FAMILIES

MIB = 2**20


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("2GB", 2 * 10**9),
        ("600 MB", 6 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("1g", 10**9),
        (2_000_000, 2_000_000),
        ("min", None),
    ],
)
def test_a_budget_is_read(written: Any, size: int | None) -> None:
    assert parse_budget(written) == Budget(size)


@pytest.mark.parametrize("written", ["", "much", "2TB", "-1GB", "0", 0, True, 1.5, "1e9", [], "nan"])
def test_what_is_no_budget_is_refused(written: Any) -> None:
    with pytest.raises(OptionError, match="memory is"):
        parse_budget(written)


def test_none_is_no_budget() -> None:
    assert parse_budget(None) is None


def sizes(latents: int = 64, rows: int = 2) -> Sizes:
    family = FAMILIES["sd1"]
    return Sizes(
        unet=family.unet, vae=family.vae, text_encoders=family.text_encoders, height=latents, width=latents, rows=rows,
        widened=4 * 1_066_000_000,
    )  # fmt: skip


def test_each_step_of_the_ladder_takes_no_more_than_the_one_before() -> None:
    for latents in (32, 64, 128):
        peaks = [predict(sizes(latents), step, 180 * MIB).peak for step in LADDER]
        assert peaks == sorted(peaks, reverse=True)


def test_the_first_step_that_fits_is_chosen() -> None:
    assert choose(sizes(), Budget(16 * 10**9), 180 * MIB) == Measures()
    assert choose(sizes(), Budget(2 * 10**9), 180 * MIB) == Measures(stored=True)
    assert choose(sizes(), Budget(None), 180 * MIB) == LADDER[-1]


def test_what_fits_in_no_way_is_refused_with_what_would() -> None:
    with pytest.raises(OptionError, match=r"takes .* at least .*smaller"):
        choose(sizes(128), Budget(300 * 10**6), 180 * MIB)


# -- when memory runs out ---------------------------------------------------------------------------------------------


class Failing(torch.nn.Module):
    """A U-Net for which there is memory for so many rows alone."""

    def __init__(self, most: int, error: type[Exception] = MemoryError) -> None:
        super().__init__()
        self.inner = network()
        self.most, self.error = most, error
        self.device, self.dtype, self.keys_values = torch.device("cpu"), torch.float32, self.inner.keys_values

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        if len(x) > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return self.inner(x, *others)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.OutOfMemoryError])
def test_the_same_picture_comes_of_the_next_measures(error: type[Exception]) -> None:
    economy = Economy()
    engine = Engine(Failing(1, error), economy=economy)  # pyright: ignore[reportArgumentType]
    engine.submit(job())
    (done,) = [event for event in engine.run() if isinstance(event, ImageDone)]
    plain = Engine(network())
    plain.submit(job())
    (expected,) = [event for event in plain.run() if isinstance(event, ImageDone)]
    assert torch.allclose(done.x, expected.x, atol=1e-4)
    assert economy.measures.rows_apart
    assert any("memory ran out" in note and "one after the other" in note for note in economy.notes)


def test_when_nothing_is_left_to_spare_it_is_an_error() -> None:
    economy = Economy()
    engine = Engine(Failing(0), economy=economy)  # pyright: ignore[reportArgumentType]
    engine.submit(job())
    (failed,) = [event for event in engine.run() if isinstance(event, ImageFailed)]
    assert isinstance(failed.error, EvaluationError)
    assert "allocate memory" in str(failed.error)
    assert economy.measures == ladder_of(stored=False)[-1]


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    economy = Economy()
    with pytest.raises(RuntimeError, match="shape"):
        economy.trying(lambda: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    assert economy.notes == []


def test_a_decoder_is_tried_again_until_it_succeeds() -> None:
    economy = Economy()

    def decode() -> str:
        if not economy.measures.tiles:
            raise MemoryError
        return "picture"

    assert economy.trying(decode) == "picture"
    assert len(economy.notes) == len(ladder_of(stored=False)) - 1


def test_rows_apart_are_the_rows_together() -> None:
    together, apart = Engine(network()), Engine(network(), economy=Economy(Measures(rows_apart=True)))
    results = []
    for engine in (together, apart):
        engine.submit(job())
        results += [event.x for event in engine.run() if isinstance(event, ImageDone)]
    assert torch.allclose(*results, atol=1e-5)
