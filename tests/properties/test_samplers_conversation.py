"""What every sampler keeps to, whatever the levels: when it asks, when it offers, what it takes back, and that it shares nothing."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_noise import noise_for
from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling, Step, run
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.samplers import SAMPLERS

SHAPE = (2, 3)
SETTINGS = settings(max_examples=30, deadline=None)


def start(name: str, sigmas: tuple[float, ...], seed: int = 0) -> Sampling:
    source = NoiseSource(seed, SHAPE)
    x = source.draw() * sigmas[0]
    return SAMPLERS[name].function(x, sigmas, **noise_for(name, source.draw))


def denoise(x: Tensor, sigma: float) -> Tensor:
    return torch.tanh(x) / (1 + sigma)


def answer(asked: Query | Step) -> Tensor:
    """What a driver says: the x offered, or what is denoised; without the prompt, something else."""
    if isinstance(asked, Step):
        return asked.x
    denoised = denoise(asked.x, asked.sigma)
    return torch.stack([denoised, denoised - 0.1]) if asked.unconditioned else denoised


def drive(sampling: Sampling, change: Callable[[Tensor], Tensor] = lambda x: x) -> tuple[Tensor, list[Query | Step]]:
    """The end of a run and all that was said in it, `change` applied to the x of every step."""
    said: list[Query | Step] = []
    try:
        said.append(next(sampling))
        while True:
            match said[-1]:
                case Query():
                    said.append(sampling.send(answer(said[-1])))
                case Step(x):
                    said.append(sampling.send(change(x)))
    except StopIteration as end:
        return end.value, said


@st.composite
def levels(draw: st.DrawFn) -> tuple[float, ...]:
    visited = draw(st.lists(st.floats(0.01, 20), min_size=1, max_size=9, unique=True))
    visited = sorted({round(sigma, 3) for sigma in visited}, reverse=True)
    return (*visited, draw(st.sampled_from([0.0, visited[-1] / 2])))


def queries_expected(name: str, sigmas: tuple[float, ...]) -> int:
    steps = len(sigmas) - 1
    if name == "plms":
        return steps + (steps > 1)
    if SAMPLERS[name].evaluations_per_step == 2:
        return 2 * steps - (sigmas[-1] == 0)
    return steps  # dpm_fast too: its steps are fewer, and cost up to three


OWN_LEVELS = ("dpm_fast", "dpm_adaptive")
"""Those that visit levels of their own between the first and the last above 0; Restart does with 20 steps and more."""


@pytest.mark.parametrize("name", SAMPLERS)
@SETTINGS
@given(sigmas=levels())
def test_a_run_asks_as_documented_and_offers_each_level_once(name, sigmas):
    end, said = drive(start(name, sigmas))
    queries = [what for what in said if isinstance(what, Query)]
    steps = [what for what in said if isinstance(what, Step)]
    assert len(steps) == SAMPLERS[name].steps(sigmas) or name == "dpm_adaptive"
    assert len(queries) == queries_expected(name, sigmas) or name == "dpm_adaptive"
    if name not in OWN_LEVELS:
        assert [step.sigma for step in steps] == list(sigmas[1:])
    assert steps[-1].sigma == sigmas[-1]
    assert all(here.sigma > below.sigma for here, below in pairwise(steps))
    assert all(0 < query.sigma <= sigmas[0] for query in queries)
    assert {query.unconditioned for query in queries} == {SAMPLERS[name].unconditioned}
    assert torch.equal(end, steps[-1].x)
    assert all(torch.isfinite(step.x).all() and torch.isfinite(step.denoised).all() for step in steps)
    assert end.dtype == torch.float32
    assert end.shape == SHAPE


@pytest.mark.parametrize("name", SAMPLERS)
@SETTINGS
@given(sigmas=levels())
def test_a_sampler_goes_on_with_the_x_it_is_handed(name, sigmas):
    handed = torch.full(SHAPE, 0.25)
    end, said = drive(start(name, sigmas), lambda _: handed)
    assert end is handed
    for before, after in pairwise(said):
        if isinstance(before, Step):
            assert isinstance(after, Query)
            assert torch.equal(after.x, handed)
            assert after.sigma == before.sigma


@pytest.mark.parametrize("name", SAMPLERS)
@SETTINGS
@given(sigmas=levels(), stop=st.integers(0, 6))
def test_a_sampler_can_be_abandoned_anywhere(name, sigmas, stop):
    sampling = start(name, sigmas)
    said = next(sampling)
    for _ in range(stop):
        try:
            said = sampling.send(answer(said))
        except StopIteration:
            break
    sampling.close()
    with pytest.raises(StopIteration):
        next(sampling)


@pytest.mark.parametrize("name", SAMPLERS)
@SETTINGS
@given(sigmas=levels(), turns=st.lists(st.booleans(), max_size=60))
def test_two_samplers_at_work_share_nothing(name, sigmas, turns):
    """Interleaved in any order, two runs end bit for bit as each does alone."""
    alone = [drive(start(name, sigmas, seed))[0] for seed in (1, 2)]
    running = [start(name, sigmas, seed) for seed in (1, 2)]
    said: list[Query | Step] = [next(sampling) for sampling in running]
    ends: dict[int, Tensor] = {}
    for turn in (*turns, *([False] * 300), *([True] * 300)):
        which = int(turn)
        if which in ends:
            continue
        try:
            said[which] = running[which].send(answer(said[which]))
        except StopIteration as end:
            ends[which] = end.value
    assert torch.equal(ends[0], alone[0])
    assert torch.equal(ends[1], alone[1])


@pytest.mark.parametrize("name", SAMPLERS)
@SETTINGS
@given(sigmas=levels())
def test_no_sampler_writes_into_a_tensor_it_was_given(name, sigmas):
    x = torch.ones(SHAPE) * sigmas[0]
    answer = torch.full(SHAPE, 0.5)
    run(SAMPLERS[name].function(x, sigmas, **noise_for(name, lambda: torch.zeros(SHAPE))), lambda *_: answer)
    assert torch.equal(x, torch.ones(SHAPE) * sigmas[0])
    assert torch.equal(answer, torch.full(SHAPE, 0.5))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_denoiser_is_reached_in_any_number_of_steps(name):
    """Where the answer is always the same x0, every sampler that ends at 0 ends on it."""
    x0 = torch.tensor([[0.3, -0.7, 0.1], [1.0, 0.0, -0.2]])
    for steps in (1, 2, 3, 4, 5, 9):
        sigmas = (*(10 / (1 + i) for i in range(steps)), 0.0)
        source = NoiseSource(4, SHAPE)
        x = x0 + sigmas[0] * source.draw()
        end = run(SAMPLERS[name].function(x, sigmas, **noise_for(name, source.draw)), lambda *_: x0)
        torch.testing.assert_close(end, x0, atol=3e-5, rtol=1e-4)
