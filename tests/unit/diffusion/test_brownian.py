import math

import pytest
import torch

from sfumato.diffusion.brownian import BrownianPath
from sfumato.diffusion.noise import NoiseSource

SHAPE = (4, 32, 32)


def path(seed: int = 3, **options: int) -> BrownianPath:
    return NoiseSource(seed, SHAPE, **options).path(0.03, 14.6)


def test_noise_of_apart_steps_is_standard_normal_and_independent() -> None:
    one = path()
    draws = [one(a, b) for a, b in ((14.6, 9.0), (9.0, 3.3), (3.3, 0.5), (0.5, 0.03))]
    count = draws[0].numel()
    for i, noise in enumerate(draws):
        assert float(noise.mean()) == pytest.approx(0, abs=5 / math.sqrt(count))
        assert float(noise.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / count))
        for other in draws[:i]:
            assert float((noise * other).mean()) == pytest.approx(0, abs=5 / math.sqrt(count))


def test_the_middle_lies_on_the_way_to_the_end() -> None:
    one = path()
    whole = one(9.0, 2.0) * math.sqrt(7)
    parts = one(9.0, 4.0) * math.sqrt(5) + one(4.0, 2.0) * math.sqrt(2)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_a_way_back_is_the_way_there_reversed() -> None:
    assert torch.equal(path()(9.0, 2.0), -path()(2.0, 9.0))


def test_a_path_is_a_function_of_seed_and_ends_alone() -> None:
    first, again = path(), path()
    before = [first(a, a / 2) for a in (8.0, 1.0, 4.0)]
    assert all(
        torch.equal(again(a, a / 2), noise) for a, noise in ((4.0, before[2]), (8.0, before[0]), (1.0, before[1]))
    )
    assert not torch.equal(path(4)(8.0, 4.0), before[0])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    path()(8.0, 4.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_levels_beyond_the_ends_are_the_ends() -> None:
    assert torch.allclose(path()(20.0, 9.0) * math.sqrt(20 - 9), path()(14.6, 9.0) * math.sqrt(14.6 - 9), atol=1e-5)


def test_a_path_moves_no_generator_and_follows_its_state() -> None:
    source = NoiseSource(3, SHAPE)
    state = source.generator_state()
    source.path(0.03, 14.6)(9.0, 2.0)
    assert source.generator_state() == state
    from_state = NoiseSource(3, SHAPE, state=state).path(0.03, 14.6)(9.0, 2.0)
    assert torch.equal(from_state, NoiseSource(8, SHAPE, state=state).path(0.03, 14.6)(9.0, 2.0))
    assert torch.equal(NoiseSource(8, SHAPE).path(0.03, 14.6, seed=3)(9.0, 2.0), path()(9.0, 2.0))


def test_rows_of_a_batch_are_those_of_one_path_of_the_batch() -> None:
    rows = [path(index=index, count=3)(9.0, 2.0) for index in range(3)]
    whole = NoiseSource(3, (3, *SHAPE)).path(0.03, 14.6)(9.0, 2.0)
    assert torch.equal(torch.stack(rows), whole)


def test_any_seed_has_a_path() -> None:
    for seed in (0, -1, 2**64 - 1):
        assert torch.isfinite(path(seed)(9.0, 2.0)).all()
