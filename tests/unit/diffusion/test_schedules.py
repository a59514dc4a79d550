import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch

from sfumato.diffusion.beta_quantile import beta_quantile, beta_share
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.schedules import SCHEDULES, Ends, levels_of
from sfumato.errors import ScheduleError

SCHEDULE = NoiseSchedule(in_float64=True)
ENDS = Ends(schedule=SCHEDULE, sigma_min=SCHEDULE.sigma(0), sigma_max=SCHEDULE.sigma(999))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 333, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_descend_to_the_end(name: str, steps: int) -> None:
    if (name, steps) == ("leading", 1000):
        steps = 999  # the offset leaves no more
    levels = levels_of(name, ENDS, steps)
    assert len(levels) == steps + 1 or name == "ddim"
    assert all(here > below for here, below in pairwise(levels))
    assert levels[0] <= ENDS.sigma_max * (1 + 1e-4)
    assert levels[-1] == (pytest.approx(ENDS.sigma_min) if name == "kl_optimal" else 0.0)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_can_t_be_taken_are_an_error(steps: int) -> None:
    with pytest.raises(ScheduleError, match="steps"):
        levels_of("karras", ENDS, steps)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_ends_that_are_none_are_an_error(low: float, high: float) -> None:
    with pytest.raises(ScheduleError, match="between"):
        Ends(schedule=SCHEDULE, sigma_min=low, sigma_max=high)


def test_the_web_ui_s_ddim_visits_one_timestep_above_each_stride() -> None:
    assert levels_of("ddim", ENDS, 20)[:-1] == pytest.approx([SCHEDULE.sigma(t) for t in range(951, 0, -50)])
    assert len(levels_of("ddim", ENDS, 30)) == 32  # 31 levels and 0: what 1000 / 30 leaves over is visited too


def test_simple_visits_the_last_of_each_stride() -> None:
    assert levels_of("simple", ENDS, 20)[:-1] == pytest.approx([SCHEDULE.sigma(t) for t in range(999, 0, -50)])


def test_kl_optimal_is_even_in_the_angle_of_sigma() -> None:
    angles = np.arctan(levels_of("kl_optimal", ENDS, 9))
    assert np.diff(angles) == pytest.approx(np.diff(angles)[0], rel=1e-3)


def test_align_your_steps_gives_the_published_levels_at_ten_steps_and_lies_between_them_else() -> None:
    published = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
    assert levels_of("align_your_steps", ENDS, 11) == pytest.approx((*published, 0.0))
    finer = levels_of("align_your_steps", ENDS, 21)
    assert finer[:-1:2] == pytest.approx(published)
    assert finer[1] == pytest.approx(math.sqrt(14.615 * 6.475), rel=1e-5)


def test_rho_bends_karras_and_polyexponential() -> None:
    ends = Ends(schedule=SCHEDULE, sigma_min=0.1, sigma_max=10.0, rho=1.0)
    assert levels_of("karras", ends, 4)[:-1] == pytest.approx((10.0, 6.7, 3.4, 0.1), rel=1e-5)
    assert levels_of("polyexponential", ends, 3)[:-1] == pytest.approx((10.0, 1.0, 0.1))
    assert levels_of("polyexponential", ends, 3) == pytest.approx(levels_of("exponential", ends, 3))
    ends = Ends(schedule=SCHEDULE, sigma_min=0.1, sigma_max=10.0, rho=2.0)
    assert levels_of("polyexponential", ends, 3)[1] == pytest.approx(10 ** (0.25 * 2 - 1))


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 0.7), (2.0, 3.0), (1.0, 1.0)])
def test_beta_quantiles_are_scipy_s(a: float, b: float) -> None:
    for share in (0.0, 1e-6, 0.02, 0.3, 0.5, 0.7, 0.98, 1 - 1e-6, 1.0):
        assert beta_quantile(share, a, b) == pytest.approx(scipy.stats.beta.ppf(share, a, b), rel=1e-9, abs=1e-15)
        assert beta_share(share, a, b) == pytest.approx(scipy.stats.beta.cdf(share, a, b), rel=1e-10)


def test_levels_are_numbers_that_float32_has() -> None:
    for name in ("karras", "exponential", "uniform", "beta", "kl_optimal"):
        levels = levels_of(name, ENDS, 12)
        assert levels == tuple(float(sigma) for sigma in torch.tensor(levels, dtype=torch.float32))
