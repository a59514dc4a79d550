"""Any sampler on any schedule, and the web UI's words for both, written and read."""

import json
import math
from dataclasses import replace

import pytest
import torch

from sfumato.diffusion.conversation import run
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.samplers import SAMPLERS, SPACINGS
from sfumato.diffusion.samplers.churn import Churn
from sfumato.errors import OptionError, ScheduleError, UnknownNameError
from sfumato.infotext import SAMPLER_NAMES, SPACING_NAMES, infotext, parse_infotext
from sfumato.metadata import Settings
from sfumato.metadata.a1111 import read_a1111
from sfumato.metadata.names import AUTOMATIC
from sfumato.recipe import Recipe
from sfumato.schedulers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    KDiffusionScheduler,
    PNDMScheduler,
    scheduler_for,
    scheduler_from_config,
    scheduler_from_settings,
)

BASE = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SHAPE = (2, 3)
LINE = "cat\nSteps: 20, Sampler: {}, CFG scale: 7, Seed: 1, Size: 64x64, Version: v1.10.1"


def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.tanh(x) / (1 + sigma)


def end(scheduler: KDiffusionScheduler, *, steps: int = 8, eta: float = 0.0, seed: int = 1) -> torch.Tensor:
    levels, source = scheduler.levels(steps), NoiseSource(seed, SHAPE)
    x = source.draw() * scheduler.initial_scale(levels)
    return run(scheduler.start(x, levels, source.draw, eta, path=source.path), denoise)


def test_names_of_either_tradition_are_one_value() -> None:
    one = KDiffusionScheduler(sampler_name="DPM++ 2M SDE", schedule="SGM Uniform")
    assert one == KDiffusionScheduler(sampler_name="k_dpmpp_2m_sde", schedule="sgm_uniform")
    assert (one.sampler, one.spacing) == ("dpmpp_2m_sde", "sgm_uniform")
    assert scheduler_from_config(json.loads(json.dumps(one.config))) == one
    with pytest.raises(UnknownNameError, match="DPM\\+\\+ 2M"):
        KDiffusionScheduler(sampler_name="DPM++ 9M")
    with pytest.raises(UnknownNameError, match="karras"):
        KDiffusionScheduler(schedule="karas")


def test_automatic_is_the_web_ui_s_choice() -> None:
    def chosen(title: str) -> str:
        return KDiffusionScheduler(sampler_name=title).spacing

    for title in ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"):
        assert chosen(title) == "karras"
    for title in ("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"):
        assert chosen(title) == "exponential"
    assert chosen("Euler a") == "uniform"


@pytest.mark.parametrize("name", ["dpm2", "dpm2_a", "dpmpp_3m_sde"])
def test_the_last_level_but_one_is_left_out_where_the_web_ui_leaves_it_out(name: str) -> None:
    levels = KDiffusionScheduler(sampler_name=name, schedule="karras").levels(10)
    whole = KDiffusionScheduler(sampler_name="euler", schedule="karras").levels(11)
    assert levels.sigmas == (*whole.sigmas[:-2], 0.0)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_on_every_schedule(name: str, spacing: str) -> None:
    x = end(KDiffusionScheduler(sampler_name=name, schedule=spacing), steps=7)
    assert torch.isfinite(x).all()
    assert x.std() < 6  # most of the noise is gone, in a few steps


@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if SAMPLERS[name].noise != "start" and name not in ("ddpm", "lcm")]
)
def test_eta_0_and_no_churn_leave_no_noise(name: str) -> None:
    if name == "restart":
        with pytest.raises(OptionError, match="Restart has no eta"):
            KDiffusionScheduler(sampler_name=name, eta=0.5)
        return
    quiet = KDiffusionScheduler(sampler_name=name, eta=0.0, schedule="karras")
    levels = quiet.levels(8)
    x = torch.ones(SHAPE) * levels.sigmas[0]
    ends = []
    for seed in (1, 2):
        source = NoiseSource(seed, SHAPE)
        ends.append(run(quiet.start(x, levels, source.draw, path=source.path), denoise))
    assert torch.equal(*ends)


def test_options_reach_the_sampler() -> None:
    plain = end(KDiffusionScheduler())
    churned = KDiffusionScheduler(s_churn=4.0, s_tmin=0.5, s_tmax=8.0, s_noise=1.1)
    levels, source = churned.levels(8), NoiseSource(1, SHAPE)
    x = source.draw() * levels.sigmas[0]
    churn = Churn(s_churn=4.0, s_tmin=0.5, s_tmax=8.0, s_noise=1.1)
    expected = run(SAMPLERS["euler"].function(x, levels.sigmas, noise=source.draw, churn=churn), denoise)
    assert torch.equal(end(churned), expected)
    assert not torch.equal(expected, plain)
    assert not torch.equal(
        end(KDiffusionScheduler(sampler_name="euler_a", eta=0.5)), end(KDiffusionScheduler(sampler_name="euler_a"))
    )
    assert torch.equal(
        end(KDiffusionScheduler(sampler_name="euler_a", eta=0.5)),
        end(KDiffusionScheduler(sampler_name="euler_a"), eta=0.5),
    )
    assert KDiffusionScheduler(schedule="karras", sigma_min=0.1, sigma_max=10.0, rho=5.0).levels(5).sigmas[
        :-1:4
    ] == pytest.approx((10, 0.1))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"s_churn": 2.0, "sampler_name": "lms"}, OptionError),
        ({"eta": 0.5, "sampler_name": "heun"}, OptionError),
        ({"eta": 1.5, "sampler_name": "euler_a"}, OptionError),
        ({"eta": -0.5, "sampler_name": "euler_a"}, OptionError),
        ({"s_noise": 1.1, "sampler_name": "lms"}, OptionError),
        ({"s_churn": -1.0}, OptionError),
        ({"s_noise": math.nan}, OptionError),
        ({"rho": 0.0}, OptionError),
        ({"sigma_min": 20.0}, ScheduleError),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, ScheduleError),
        ({"sigma_max": -1.0}, ScheduleError),
    ],
    ids=str,
)
def test_what_does_nothing_or_can_t_be_is_an_error_where_it_is_given(
    options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        KDiffusionScheduler(**options)


def test_another_sampler_or_schedule_keeps_what_still_applies() -> None:
    base = KDiffusionScheduler(sampler_name="euler_a", schedule="karras", eta=0.5, sigma_min=0.1)
    assert scheduler_for(base=base, spacing="beta") == KDiffusionScheduler(
        sampler_name="euler_a", schedule="beta", eta=0.5, sigma_min=0.1
    )
    assert scheduler_for(base=base, sampler="DPM++ SDE") == KDiffusionScheduler(
        sampler_name="dpmpp_sde", schedule="karras", sigma_min=0.1
    )


def test_noise_of_the_sde_follows_the_image_s_seed() -> None:
    scheduler = KDiffusionScheduler(sampler_name="dpmpp_2m_sde")
    assert torch.equal(end(scheduler), end(scheduler))
    assert not torch.equal(end(scheduler), end(scheduler, seed=2))


def recipe(scheduler: KDiffusionScheduler, eta: float = 0.0) -> Recipe:
    return Recipe(
        prompt="a red apple", seed=1, sampler=scheduler.sampler, scheduler=dict(scheduler.config), steps=20, guidance_scale=7.0,
        eta=eta, width=64, height=64, dtype="float32", device="cpu", model="m",
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("ddim", "plms")])
@pytest.mark.parametrize("spacing", ["automatic", "karras", "sgm_uniform", "kl_optimal", "beta"])
def test_what_the_infotext_says_is_read_back(name: str, spacing: str) -> None:
    options = (
        {"eta": 0.5}
        if name in ("euler_a", "dpmpp_2m_sde")
        else {"s_churn": 2.0, "s_tmax": 9.0}
        if name == "heun"
        else {}
    )
    written = KDiffusionScheduler(sampler_name=name, schedule=spacing, rho=5.0, **options)
    text = infotext(recipe(written))
    settings = parse_infotext(text).settings
    assert (settings["Sampler"], settings["Schedule type"]) == (SAMPLER_NAMES[name], SPACING_NAMES[spacing])
    read, omissions = scheduler_from_settings(BASE, read_a1111(text))
    assert omissions == ()
    assert isinstance(read, KDiffusionScheduler)
    assert (read.spacing, read.levels(8)) == (written.spacing, written.levels(8))
    assert replace(read, schedule=spacing) == written


def test_programs_of_either_tradition_get_a_scheduler_of_theirs() -> None:
    ours, _ = scheduler_from_settings(BASE, Settings(program="ComfyUI", sampler="DDIM", schedule="simple"))
    assert (type(ours), ours.sampler, ours.spacing) == (KDiffusionScheduler, "ddim", "simple")
    ours, _ = scheduler_from_settings(BASE, Settings(program="InvokeAI", sampler="DPM++ 2M", schedule="karras"))
    assert (type(ours).__name__, ours.spacing) == ("DPMSolverMultistepScheduler", "karras")
    used = KDiffusionScheduler(sampler_name="euler_a", eta=0.5, sigma_min=0.1, s_noise=1.1)
    ours, _ = scheduler_from_settings(used, Settings(program="NovelAI", sampler="Euler a", schedule="karras"))
    assert ours == KDiffusionScheduler(sampler_name="euler_a", schedule="karras")


def test_every_sampler_and_schedule_has_its_name_in_the_infotext() -> None:
    assert set(SAMPLER_NAMES) == set(SAMPLERS)
    assert {name: info.title for name, info in SAMPLERS.items()} == dict(SAMPLER_NAMES)
    assert set(SPACING_NAMES) == set(SPACINGS)


@pytest.mark.parametrize(
    ("old", "sampler", "spacing"), [("DPM++ 2M Karras", "dpmpp_2m", "karras"), ("Euler a", "euler_a", "uniform")]
)
def test_older_texts_say_the_schedule_with_the_sampler(old: str, sampler: str, spacing: str) -> None:
    scheduler, _ = scheduler_from_settings(BASE, read_a1111(LINE.format(old)))
    assert (scheduler.sampler, scheduler.spacing) == (sampler, spacing)


def test_ddim_and_plms_are_the_web_ui_s_whatever_the_schedule_type() -> None:
    ddim, _ = scheduler_from_settings(BASE, read_a1111(LINE.format("DDIM, Schedule type: Karras")))
    assert isinstance(ddim, DDIMScheduler)
    assert ddim.levels(20).timesteps == tuple(float(t) for t in range(951, 0, -50))
    assert ddim.levels(20).sigmas[-1] == ddim.noise_schedule.sigma(0)
    assert isinstance(scheduler_from_settings(BASE, read_a1111(LINE.format("PLMS")))[0], PNDMScheduler)


def test_what_the_web_ui_and_we_hold_for_automatic_agrees() -> None:
    own = {info.title: info.schedule for info in SAMPLERS.values() if info.schedule != "uniform"}
    assert own.keys() - AUTOMATIC.keys() == {"DPM fast", "DPM adaptive"}  # they visit levels of their own in any case
    assert {title: own.get(title) for title in AUTOMATIC} == dict(AUTOMATIC)


@pytest.mark.parametrize(
    ("said", "omitted"),
    [
        ("Euler, Sigma churn: much", {"Sigma churn": "it is no number"}),
        ("Oiler", {"sampler": "it is not here; euler is taken"}),
        ("DPM++ 2M, Eta: 0.67", {"eta": "DPM++ 2M has no eta, which would do nothing; leave it out"}),
        ("PLMS, Schedule rho: 5", {"rho": "PNDMScheduler does not act on it"}),
        ("Euler, Schedule max sigma: 99", {"sigma_max": "outside the noise schedule"}),
        ("Heun, Sigma churn: 3, Sigma tmax: 9, Schedule rho: 0, Sigma noise: 1, Eta: 1.0", {}),
    ],
)
def test_what_is_said_and_can_t_be_is_named(said: str, omitted: dict[str, str]) -> None:
    settings = read_a1111(LINE.format(said))
    scheduler, omissions = scheduler_from_settings(BASE, settings)
    found = {one.name: one.why for one in (*settings.omissions, *omissions)}
    assert found.keys() == omitted.keys()
    assert all(why in found[name] for name, why in omitted.items())
    if not omitted:
        assert scheduler == KDiffusionScheduler(sampler_name="heun", schedule="uniform", s_churn=3.0, s_tmax=9.0)
