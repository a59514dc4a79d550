import math
from typing import get_args

import numpy as np
import pytest
import torch

from sfumato.diffusion.noise_schedule import NoiseSchedule, ScheduleKind
from sfumato.errors import ScheduleError, UnknownNameError


def test_the_default_is_stable_diffusion_s():
    schedule = NoiseSchedule()
    assert schedule.sigma(999) == pytest.approx(14.6146, abs=1e-4)
    assert schedule.sigma(0) == pytest.approx(0.02917, abs=1e-5)


@pytest.mark.parametrize("kind", get_args(ScheduleKind))
def test_tables_rise_in_sigma_and_fall_in_signal(kind):
    schedule = NoiseSchedule(kind=kind)
    assert schedule.alphas_cumprod.dtype == torch.float32
    assert schedule.sigmas.dtype == torch.float64
    assert len(schedule.alphas_cumprod) == len(schedule.sigmas) == 1000
    assert (schedule.alphas_cumprod.diff() <= 0).all()
    assert (schedule.sigmas.diff() >= 0).all()
    assert schedule.sigmas.isfinite().all()


def test_sigma_and_timestep_are_each_other_s_inverse_at_whole_timesteps():
    schedule = NoiseSchedule()
    for t in range(0, 1000, 37):
        assert schedule.timestep(schedule.sigma(t)) == pytest.approx(t, abs=1e-3)


def test_between_whole_timesteps_sigma_is_linear_and_timestep_is_linear_in_log_sigma():
    schedule = NoiseSchedule()
    low, high = schedule.sigma(500), schedule.sigma(501)
    assert schedule.sigma(500.25) == pytest.approx(0.75 * low + 0.25 * high)
    assert schedule.timestep(low**0.75 * high**0.25) == pytest.approx(500.25, abs=1e-3)


def test_beyond_the_table_its_ends_stand():
    schedule = NoiseSchedule()
    assert schedule.timestep(1e6) == 999
    assert schedule.timestep(1e-6) == schedule.timestep(0.0) == 0


@pytest.mark.parametrize("timestep", [-1, -1e-9, 999.1, 1000, math.nan, math.inf])
def test_a_timestep_outside_the_schedule_is_an_error(timestep):
    with pytest.raises(ScheduleError, match="expected 0 to 999"):
        NoiseSchedule().sigma(timestep)


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_a_sigma_that_is_none_is_an_error(sigma):
    with pytest.raises(ScheduleError, match="finite"):
        NoiseSchedule().timestep(sigma)


@pytest.mark.parametrize(
    "options",
    [
        {"beta_start": 0.0},
        {"beta_start": 0.02, "beta_end": 0.01},
        {"beta_end": 1.0},
        {"beta_start": math.nan},
        {"steps": 1},
        {"steps": 3, "trained_betas": (0.1, 0.2)},
        {"steps": 3, "trained_betas": (0.1, 0.2, 1.0)},
        {"steps": 3, "trained_betas": (0.1, math.nan, 0.2)},
    ],
)
def test_betas_that_make_no_schedule_are_an_error(options):
    with pytest.raises(ScheduleError):
        NoiseSchedule(**options)


def test_a_schedule_without_signal_at_its_end_is_an_error():
    with pytest.raises(ScheduleError, match="no signal"):
        _ = NoiseSchedule(steps=1000, trained_betas=(0.999,) * 1000).sigmas


def test_an_unknown_kind_is_an_error_with_the_nearest():
    with pytest.raises(UnknownNameError, match="scaled_linear"):
        NoiseSchedule(kind="scaled-linear")


def test_tables_handed_out_are_copies():
    schedule = NoiseSchedule()
    schedule.alphas_cumprod.zero_()
    schedule.sigmas.zero_()
    assert schedule.sigma(999) > 14
    assert schedule.alphas_cumprod[0] > 0.99
    assert schedule.sigmas[-1] > 14


def test_equal_schedules_are_equal_values():
    assert NoiseSchedule() == NoiseSchedule(steps=1000)
    assert hash(NoiseSchedule()) == hash(NoiseSchedule(steps=1000))
    assert NoiseSchedule() != NoiseSchedule(kind="linear")


@pytest.mark.parametrize("steps", [100_001, 10**9])
def test_a_table_that_would_take_the_memory_is_refused(steps: int) -> None:
    with pytest.raises(ScheduleError, match="give 2 to 100,000"):
        NoiseSchedule(steps=steps)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_rescaled_to_no_signal_the_first_timestep_stays_and_the_last_keeps_what_is_said(kind):
    plain, rescaled = NoiseSchedule(kind=kind), NoiseSchedule(kind=kind, terminal_signal=2.0**-24)
    assert float(rescaled.alphas_cumprod[0]) == pytest.approx(float(plain.alphas_cumprod[0]))
    assert float(rescaled.alphas_cumprod[-1]) == 2.0**-24
    assert rescaled.sigma(999) == pytest.approx(4096, rel=1e-4)
    # The roots of the shares lie on a straight line with those of the plain schedule.
    before, after = (each.alphas_cumprod[:-1].sqrt().double() for each in (plain, rescaled))
    slope = (after[0] - after[500]) / (before[0] - before[500])
    torch.testing.assert_close(after, after[0] + slope * (before - before[0]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_last_timestep_keeps_a_share_above_0(share):
    with pytest.raises(ScheduleError, match="share"):
        NoiseSchedule(terminal_signal=share)


def test_in_float64_the_table_is_compvis_s():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    expected = np.cumprod(1 - betas).astype(np.float32)
    assert NoiseSchedule(in_float64=True).alphas_cumprod.numpy() == pytest.approx(expected, rel=1e-7)
    assert not np.array_equal(NoiseSchedule().alphas_cumprod.numpy(), expected)
