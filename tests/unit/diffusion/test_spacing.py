import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.spacing import Levels, exponential, karras, leading, linspace, relabel, sigmas_at, trailing
from sfumato.errors import ScheduleError


def test_the_three_ways_to_choose_four_of_a_thousand_timesteps():
    # Lin et al. 2023, arXiv:2305.08891, Table 2
    assert leading(1000, 4) == (750, 500, 250, 0)
    assert leading(1000, 4, offset=1) == (751, 501, 251, 1)
    assert trailing(1000, 4) == (999, 749, 499, 249)
    assert linspace(1000, 4) == (999, 666, 333, 0)
    assert linspace(1000, 3) == (999, 500, 0)
    assert linspace(1000, 3, whole=False) == (999, 499.5, 0)


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(1, 1000))
@pytest.mark.parametrize("space", [leading, trailing, linspace])
def test_any_number_of_steps_is_that_many_descending_timesteps(space, steps):
    timesteps = space(1000, steps)
    assert len(timesteps) == steps
    assert all(0 <= t <= 999 and t == int(t) for t in timesteps)
    assert all(a > b for a, b in pairwise(timesteps))


@pytest.mark.parametrize("steps", [0, -1, 1001, 10_000])
@pytest.mark.parametrize("space", [leading, trailing, linspace])
def test_steps_that_the_schedule_hasn_t_are_an_error(space, steps):
    with pytest.raises(ScheduleError, match="ask for 1 to 1000"):
        space(1000, steps)


@pytest.mark.parametrize(("steps", "offset"), [(1000, 1), (50, 20), (50, -1)])
def test_an_offset_that_leaves_the_schedule_is_an_error(steps, offset):
    with pytest.raises(ScheduleError, match="steps_offset"):
        leading(1000, steps, offset=offset)


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(1, 200), low=st.floats(0.01, 1), span=st.floats(1.5, 1000))
@pytest.mark.parametrize("space", [karras, exponential])
def test_sigmas_between_two_ends_hold_both_exactly(space, steps, low, span):
    high = low * span
    sigmas = space(high, low, steps)
    assert len(sigmas) == steps
    assert sigmas[0] == high
    assert steps == 1 or sigmas[-1] == low
    assert all(a > b for a, b in pairwise(sigmas))


def test_karras_is_even_in_the_seventh_root_and_exponential_in_the_logarithm():
    roots = [sigma ** (1 / 7) for sigma in karras(14.6, 0.03, 11)]
    assert roots == pytest.approx([roots[0] + i * (roots[-1] - roots[0]) / 10 for i in range(11)])
    logs = [math.log(sigma) for sigma in exponential(14.6, 0.03, 11)]
    assert logs == pytest.approx([logs[0] + i * (logs[-1] - logs[0]) / 10 for i in range(11)])


@pytest.mark.parametrize("space", [karras, exponential])
@pytest.mark.parametrize(
    "ends", [(1.0, 2.0), (1.0, 0.0), (1.0, -1.0), (math.nan, 0.1), (math.inf, 0.1), (1.0, math.nan)]
)
def test_ends_without_levels_between_them_are_an_error(space, ends):
    with pytest.raises(ScheduleError, match="sigma_min"):
        space(*ends, 5)


@pytest.mark.parametrize("space", [karras, exponential])
def test_no_steps_between_sigmas_are_an_error(space):
    with pytest.raises(ScheduleError, match="at least 1"):
        space(10.0, 0.1, 0)


@pytest.mark.parametrize(
    ("sigmas", "timesteps", "targets"),
    [
        ((0.0,), (), None),
        ((2.0, 1.0), (9.0, 8.0), None),
        ((2.0, 1.0, 0.0), (9.0, 8.0), (1.0,)),
        ((2.0, 2.0, 0.0), (9.0, 8.0), None),
        ((1.0, 2.0, 0.0), (9.0, 8.0), None),
        ((2.0, 1.0, 1.5), (9.0, 8.0), None),
        ((2.0, 1.0, -0.1), (9.0, 8.0), None),
        ((math.nan, 1.0, 0.0), (9.0, 8.0), None),
        ((math.inf, 1.0, 0.0), (9.0, 8.0), None),
        ((2.0, 1.0, 0.0), (9.0, math.nan), None),
        ((2.0, 1.0, 0.0), (9.0, 8.0), (math.nan, 0.0)),
        ((2.0, 0.0, 0.0), (9.0, 8.0), None),
    ],
)
def test_levels_that_can_t_be_visited_are_an_error(sigmas, timesteps, targets):
    with pytest.raises(ScheduleError):
        Levels(sigmas=sigmas, timesteps=timesteps, targets=targets)


def test_levels_may_end_where_the_last_step_begins():
    assert Levels(sigmas=(2.0, 1.0, 1.0), timesteps=(9.0, 8.0)).steps == 2


def test_a_level_has_its_own_timestep_and_what_lies_between_the_schedule_s():
    schedule = NoiseSchedule()
    levels = Levels(sigmas=(*sigmas_at(schedule, (901, 501)), 0.0), timesteps=(900.0, 500.0))
    assert levels.timestep(levels.sigmas[0], schedule) == 900
    assert levels.timestep(levels.sigmas[1], schedule) == 500
    assert levels.timestep(schedule.sigma(700), schedule) == pytest.approx(700, abs=1e-3)
    assert levels.timestep(0.0, schedule) == 0  # the last level has no timestep of its own


def test_relabelled_latents_are_the_same_after_variance_preserving_scaling():
    x = torch.randn(4, generator=torch.Generator().manual_seed(0))
    there = relabel(x, 3.0, 0.5)
    torch.testing.assert_close(x / math.sqrt(1 + 9), there / math.sqrt(1 + 0.25))
    torch.testing.assert_close(relabel(there, 0.5, 3.0), x)
    assert relabel(x, 3.0, 3.0) is x
