import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.diffusion.prediction import denoised_from, network_scale
from sfumato.diffusion.samplers import SAMPLERS, SPACINGS
from sfumato.errors import (
    ConfigError,
    CorruptFileError,
    MissingFileError,
    OptionError,
    OutputError,
    ScheduleError,
    UnknownNameError,
    UnsupportedError,
    UsageError,
)
from sfumato.schedulers import (
    CLASSES,
    SCHEDULERS,
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
    TCDScheduler,
    UnavailableScheduler,
    UniPCMultistepScheduler,
    scheduler_for,
    scheduler_from_config,
)

STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def test_each_sampler_has_its_scheduler():
    base = scheduler_from_config(STABLE_DIFFUSION)
    for name, info in SAMPLERS.items():
        for known in (name, info.title, *info.aliases):
            assert scheduler_for(base=base, sampler=known).sampler == name
    assert {kind().sampler for kind in CLASSES.values()} == set(CLASSES)
    assert all(isinstance(scheduler_for(base=base, sampler=kind.__name__), kind) for kind in CLASSES.values())
    assert list(SCHEDULERS) == [kind.__name__ for kind in SCHEDULERS.values()]
    assert set(DDIMScheduler().compatibles) == set(SCHEDULERS.values())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_is_a_value(name):
    one, other = SCHEDULERS[name].from_config(STABLE_DIFFUSION), SCHEDULERS[name].from_config(STABLE_DIFFUSION)
    assert one == other
    assert hash(one) == hash(other)
    assert one != SCHEDULERS[name](beta_end=0.03)
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert again == one
        assert again.config == one.config
    with pytest.raises(FrozenInstanceError):
        one.beta_start = 0.1


def test_what_diffusers_schedulers_do_in_a_run_is_said_to_be_elsewhere():
    with pytest.raises(AttributeError, match="levels"):
        DDIMScheduler().set_timesteps(50)
    assert not hasattr(DDIMScheduler(), "nonsense")


def test_a_config_reads_as_mapping_and_by_attribute_and_can_t_be_written():
    config = EulerDiscreteScheduler(beta_end=0.012).config
    assert config["beta_end"] == config.beta_end == 0.012
    assert config["_class_name"] == "EulerDiscreteScheduler"
    assert isinstance(config, dict)
    assert json.loads(json.dumps(config)) == config
    with pytest.raises(AttributeError, match="no option 'beta_middle'"):
        _ = config.beta_middle
    for write in (
        lambda: config.update(beta_end=1),
        lambda: config.__setitem__("beta_end", 1),
        lambda: setattr(config, "beta_end", 1),
        lambda: config.pop("beta_end"),
        config.clear,
    ):
        with pytest.raises(TypeError, match="read-only"):
            write()
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_swapping_the_scheduler_of_a_pipeline_keeps_its_noise_schedule():
    base = scheduler_from_config(STABLE_DIFFUSION)
    euler = EulerDiscreteScheduler.from_config(base.config, use_karras_sigmas=True)
    assert euler.noise_schedule == base.noise_schedule
    assert (base.spacing, euler.spacing) == ("leading", "karras")
    assert euler.steps_offset == 1
    assert euler.config["skip_prk_steps"] is True  # carried for the class that reads it …
    assert PNDMScheduler.from_config(euler.config).skip_prk_steps  # … and read there
    assert EulerDiscreteScheduler.from_config(base) == EulerDiscreteScheduler.from_config(base.config)


def test_defaults_stay_with_their_class_and_what_was_said_goes_along():
    assert EulerDiscreteScheduler.from_config(PNDMScheduler().config).timestep_spacing == "linspace"
    said = PNDMScheduler(timestep_spacing="leading").config
    assert EulerDiscreteScheduler.from_config(said).timestep_spacing == "leading"
    assert DDIMScheduler(1000, 0.001).config["_use_default_values"].count("beta_start") == 0


def test_overrides_that_do_nothing_or_don_t_exist_are_errors():
    with pytest.raises(UnsupportedError, match="use_karras_sigmas"):
        DDIMScheduler.from_config(STABLE_DIFFUSION, use_karras_sigmas=True)
    assert DDIMScheduler.from_config(STABLE_DIFFUSION, use_karras_sigmas=False) == DDIMScheduler.from_config(
        STABLE_DIFFUSION
    )
    with pytest.raises(UnknownNameError, match="use_karras_sigmas"):
        EulerDiscreteScheduler.from_config(STABLE_DIFFUSION, use_karas_sigmas=True)


@pytest.mark.parametrize("config", ["folder", 3, None, ["beta_start"]])
def test_a_config_that_is_no_mapping_is_an_error(config):
    with pytest.raises(ConfigError, match="mapping"):
        EulerDiscreteScheduler.from_config(config)


def test_unknown_options_of_a_config_are_said_unless_they_are_off(caplog):
    assert scheduler_from_config({**STABLE_DIFFUSION, "wobble": None}).config["wobble"] is None
    assert not caplog.records
    scheduler = scheduler_from_config({**STABLE_DIFFUSION, "wobble": 3})
    assert scheduler == scheduler_from_config(STABLE_DIFFUSION)
    assert [(record.name, record.levelname) for record in caplog.records] == [("sfumato", "WARNING")]
    assert "wobble" in caplog.text
    assert EulerDiscreteScheduler.from_config(scheduler.config).config["wobble"] == 3  # carried on, and not said again
    assert len(caplog.records) == 1
    with pytest.raises(UnknownNameError, match="wobble"):
        EulerDiscreteScheduler.from_config(STABLE_DIFFUSION, wobble=3)


def test_options_that_diffusers_no_longer_has_are_dropped_in_silence(caplog):
    old = {
        "tensor_format": "pt",
        "timestep_values": [3],
        "timesteps": [1],
        "denoise_final": True,
        "predict_epsilon": True,
    }
    scheduler = scheduler_from_config({**STABLE_DIFFUSION, **old})
    assert scheduler.config == scheduler_from_config(STABLE_DIFFUSION).config
    assert not caplog.records


def test_a_network_that_predicts_no_epsilon_predicts_the_sample():
    assert scheduler_from_config({**STABLE_DIFFUSION, "predict_epsilon": False}).prediction_type == "sample"
    assert scheduler_from_config({**STABLE_DIFFUSION, "prediction_type": "original_sample"}).prediction_type == "sample"
    newer = {**STABLE_DIFFUSION, "predict_epsilon": False, "prediction_type": "v_prediction"}
    assert scheduler_from_config(newer).prediction_type == "v_prediction"


def test_a_config_needs_a_known_class():
    with pytest.raises(ConfigError, match="_class_name"):
        scheduler_from_config({})
    for wrong in ("EulerDiscretScheduler", "UnavailableScheduler"):
        with pytest.raises(UnknownNameError, match="did you mean"):
            scheduler_from_config({"_class_name": wrong})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EulerDiscreteScheduler, {"interpolation_type": "log_linear"}),
        (EulerDiscreteScheduler, {"timestep_type": "continuous"}),
        (TCDScheduler, {"thresholding": True}),
        (DDPMScheduler, {"variance_type": "learned_range"}),
        (DPMSolverMultistepScheduler, {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}),
        (DPMSolverMultistepScheduler, {"solver_order": 4}),
        (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver"}),
        (DPMSolverSinglestepScheduler, {"solver_order": 3, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++"}),
        (UniPCMultistepScheduler, {"use_flow_sigmas": True}),
        (UniPCMultistepScheduler, {"solver_p": "DDIMScheduler"}),
        (UniPCMultistepScheduler, {"solver_order": 5}),
        (SASolverScheduler, {"tau_func": "a function"}),
        (UniPCMultistepScheduler, {"thresholding": True, "predict_x0": False}),
        (DPMSolverMultistepScheduler, {"use_flow_sigmas": True}),
        (DPMSolverMultistepScheduler, {"variance_type": "learned"}),
    ],
)
def test_what_is_not_honoured_is_said(kind, options):
    with pytest.raises(UnsupportedError, match=next(iter(options))) as caught:
        kind(**options)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedError):
        kind.from_config({**STABLE_DIFFUSION, **options})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"beta_schedule": "cubic"}, UnknownNameError),
        ({"prediction_type": "epsilom"}, UnknownNameError),
        ({"timestep_spacing": "even"}, UnknownNameError),
        ({"final_sigmas_type": "last"}, UnknownNameError),
        ({"beta_start": -1}, ScheduleError),
        ({"beta_end": math.nan}, OptionError),
        ({"beta_end": 10**400}, OptionError),
        ({"num_train_timesteps": 10**9}, ScheduleError),
        ({"trained_betas": [0.1]}, ScheduleError),
        ({"use_karras_sigmas": True, "use_exponential_sigmas": True}, OptionError),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, OptionError),
        ({"beta_start": "0.1"}, OptionError),
        ({"num_train_timesteps": 1000.0}, OptionError),
        ({"num_train_timesteps": True}, OptionError),
        ({"use_karras_sigmas": "yes"}, OptionError),
        ({"prediction_type": None}, OptionError),
        ({"beta_schedule": 3}, OptionError),
        ({"trained_betas": ["a"]}, OptionError),
        ({"trained_betas": 0.1}, OptionError),
        ({"trained_betas": "a"}, OptionError),
        ({"sigma_max": math.nan, "use_karras_sigmas": True}, OptionError),
        ({"sigma_min": "a"}, OptionError),
        ({"sigma_min": True}, OptionError),
        ({"rescale_betas_zero_snr": None}, OptionError),
    ],
)
def test_values_out_of_range_are_errors_where_they_are_given(options, error):
    with pytest.raises(error):
        EulerDiscreteScheduler(**options).levels(5)


@pytest.mark.parametrize("steps", [0, -3, 10_000, 2.5, "20", None, True, math.nan])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_steps_that_can_t_be_taken_are_an_error(name, steps):
    with pytest.raises(ScheduleError, match="steps"):
        SCHEDULERS[name].from_config(STABLE_DIFFUSION).levels(steps)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_levels_fall_from_noise_to_the_end_in_as_many_steps_as_asked(name):
    scheduler = SCHEDULERS[name].from_config(STABLE_DIFFUSION)
    for steps in (1, 3, 20):
        levels = scheduler.levels(steps)
        assert levels.steps == steps
        assert scheduler.initial_scale(levels) >= levels.sigmas[0]
        assert 0 < scheduler.final_scale(levels) <= 1


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in ("DDIMScheduler", "TCDScheduler")])
def test_eta_is_ddim_s_alone(name):
    scheduler = SCHEDULERS[name].from_config(STABLE_DIFFUSION)
    with pytest.raises(OptionError, match=r"DDIM|Euler has no eta"):
        scheduler.start(torch.zeros(1), scheduler.levels(2), lambda: torch.zeros(1), eta=0.5)


UNAVAILABLE = [
    {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "prediction_type": "sample"},
    {"_class_name": "IPNDMScheduler", "prediction_type": "v_prediction"},
    {"_class_name": "DDIMInverseScheduler", "clip_sample": True, "steps_offset": 0},
    {
        "_class_name": "DPMSolverMultistepScheduler",
        "algorithm_type": "sde-dpmsolver++",
        "solver_order": 3,
        "lambda_min_clipped": -math.inf,
    },
    {"_class_name": "DDPMScheduler", "variance_type": "fixed_large"},
]


@pytest.mark.parametrize("change", UNAVAILABLE, ids=lambda change: "-".join(map(str, change.values())))
def test_a_model_s_scheduler_that_is_not_ours_opens_and_makes_way_for_another(change, tmp_path):
    config = {**STABLE_DIFFUSION, **change}
    scheduler = scheduler_from_config(config)
    assert isinstance(scheduler, UnavailableScheduler)
    assert scheduler == scheduler_from_config(config) != scheduler_from_config({**config, "beta_end": 0.02})
    assert hash(scheduler) == hash(pickle.loads(pickle.dumps(scheduler)))
    for refused in (scheduler, scheduler.in_pipeline()):
        for ask in (
            lambda one: one.levels(5),
            lambda one: one.start(torch.zeros(1), DDIMScheduler().levels(5), torch.ones),
            lambda one: scheduler_for(base=one, spacing="trailing"),
        ):
            with pytest.raises(UnsupportedError, match=r"scheduler=….*--sampler euler") as caught:
                ask(refused)
            assert "\n" not in str(caught.value)
            assert change["_class_name"] in str(caught.value)

    kept = {key: value for key, value in config.items() if value != -math.inf}
    assert {**scheduler.config, "_use_default_values": None} == {**kept, "_use_default_values": None}
    json.dumps(scheduler.config, allow_nan=False)
    assert scheduler_from_config(scheduler.config).config == scheduler.config
    scheduler.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text()) == kept

    known = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    assert scheduler.noise_schedule == known.noise_schedule
    assert scheduler.prediction_type == change.get("prediction_type", "epsilon")
    repaired = scheduler.in_pipeline()
    assert repaired.config["steps_offset"] == 1
    assert not repaired.config.get("clip_sample")
    assert scheduler_for(base=scheduler) is scheduler
    for swapped in (EulerDiscreteScheduler.from_config(repaired.config), scheduler_for(base=repaired, sampler="euler")):
        assert swapped.noise_schedule == known.noise_schedule
        assert swapped.prediction_type == scheduler.prediction_type
        assert swapped.levels(3).steps == 3


def test_unavailable_schedulers_are_no_class_to_choose():
    assert "UnavailableScheduler" not in SCHEDULERS
    assert isinstance(UnavailableScheduler.from_config(STABLE_DIFFUSION), UnavailableScheduler)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_replacing_an_option_keeps_what_the_config_carries_and_which_are_defaults(name):
    scheduler = SCHEDULERS[name].from_config({**STABLE_DIFFUSION, "sigma_data": 0.5})
    same, other = replace(scheduler), replace(scheduler, beta_end=0.013)
    assert same.config == scheduler.config
    assert other.config == {**scheduler.config, "beta_end": 0.013}
    fresh = replace(SCHEDULERS[name](), beta_end=0.013)
    assert "beta_end" not in fresh.config["_use_default_values"]
    assert "timestep_spacing" in fresh.config["_use_default_values"]


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_out_of_range_is_an_error(eta):
    scheduler = DDIMScheduler()
    with pytest.raises(OptionError, match="eta"):
        scheduler.start(torch.zeros(1), scheduler.levels(2), lambda: torch.zeros(1), eta=eta)


def test_pndm_s_runge_kutta_start_takes_four_steps_and_all_of_them():
    scheduler = scheduler_from_config({**STABLE_DIFFUSION, "skip_prk_steps": False})
    with pytest.raises(ScheduleError, match="at least 4"):
        scheduler.levels(3)
    with pytest.raises(UnsupportedError, match="skip_prk_steps=True"):
        scheduler.tail(scheduler.levels(4), 1)
    assert EulerDiscreteScheduler.from_config(scheduler.config).config["skip_prk_steps"] is False


@pytest.mark.parametrize("options", [{"dynamic_thresholding_ratio": 1.5}, {"sample_max_value": 0.5}], ids=str)
@pytest.mark.parametrize("kind", [DDIMScheduler, DEISMultistepScheduler])
def test_thresholds_that_can_t_be_are_errors(kind, options):
    scheduler = kind(thresholding=True, **options)
    with pytest.raises(OptionError, match=next(iter(options))):
        scheduler.start(torch.zeros(1), scheduler.levels(2), lambda: torch.zeros(1))


def test_a_spacing_that_single_step_has_not_is_refused_where_it_is_asked_for():
    with pytest.raises(UnsupportedError, match="linspace"):
        DPMSolverSinglestepScheduler.from_config(STABLE_DIFFUSION, timestep_spacing="trailing")
    assert DPMSolverSinglestepScheduler.from_config({"timestep_spacing": "trailing"}).spacing == "linspace"


def test_a_clipping_range_is_finite():
    with pytest.raises(OptionError, match="clip_sample_range=nan is not a finite number"):
        DDIMScheduler(clip_sample_range=math.nan)


def test_what_may_be_null_may_be_null():
    nulls = {"flow_shift": None, "variance_type": None, "use_lu_lambdas": None, "use_karras_sigmas": None}
    assert DPMSolverMultistepScheduler.from_config({**STABLE_DIFFUSION, **nulls}).levels(5).steps == 5


def test_trailing_spacing_of_dpmpp_needs_no_timestep_more_than_steps():
    levels = DPMSolverMultistepScheduler(timestep_spacing="trailing").levels(1000)
    assert levels.timesteps == tuple(float(t) for t in reversed(range(1000)))
    for spacing in ("leading", "linspace"):
        with pytest.raises(ScheduleError, match="1001 timesteps"):
            DPMSolverMultistepScheduler(timestep_spacing=spacing).levels(1000)


def test_a_clipped_lambda_is_not_for_trailing_spacing():
    options = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1, "timestep_spacing": "trailing"}
    with pytest.raises(UnsupportedError, match="lambda_min_clipped"):
        DPMSolverMultistepScheduler(**options).levels(5)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", [None, *SPACINGS])
def test_a_model_s_scheduler_with_another_sampler_and_spacing(sampler, spacing):
    base = scheduler_from_config(STABLE_DIFFUSION)
    scheduler = scheduler_for(base=base, sampler=sampler, spacing=spacing)
    assert scheduler.sampler == sampler
    if spacing == "automatic" or sampler in ("dpm_fast", "dpm_adaptive"):
        assert scheduler.spacing == SAMPLERS[sampler].schedule
    else:
        assert spacing in (None, scheduler.spacing)
    # The web UI's is the same, but for the precision that it is computed in.
    assert replace(scheduler.noise_schedule, in_float64=False) == base.noise_schedule
    assert not scheduler.config.get("clip_sample")  # latents are not bounded
    levels = scheduler.levels(4)
    next(scheduler.start(torch.ones(1), levels, lambda: torch.zeros(1)))
    assert scheduler_from_config(json.loads(json.dumps(scheduler.config))) == scheduler


def test_a_spacing_alone_keeps_the_sampler():
    base = LMSDiscreteScheduler(use_karras_sigmas=True)
    assert scheduler_for(base=base, spacing="trailing") == LMSDiscreteScheduler(timestep_spacing="trailing")
    assert scheduler_for(base=base) == base


def test_what_a_model_says_of_clipping_stands():
    clipped = DDIMScheduler(clip_sample=True)
    assert scheduler_for(base=clipped, sampler="ddpm").config["clip_sample"] is True


def test_unknown_samplers_and_spacings_are_errors_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Euler"):
        scheduler_for(base=DDIMScheduler(), sampler="oiler")
    with pytest.raises(UnknownNameError, match="karras"):
        scheduler_for(base=LMSDiscreteScheduler(), spacing="karas")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_config_is_strict_json_which_a_recipe_needs(name):
    scheduler = SCHEDULERS[name].from_config(STABLE_DIFFUSION)
    text = json.dumps(scheduler.config, allow_nan=False)
    assert scheduler_from_config(json.loads(text)) == scheduler
    assert scheduler_from_config({**json.loads(text), "lambda_min_clipped": -math.inf}) == scheduler


def test_saving_and_opening(tmp_path):
    scheduler = EulerDiscreteScheduler.from_config(STABLE_DIFFUSION, use_karras_sigmas=True)
    scheduler.save_pretrained(tmp_path / "model" / "scheduler")
    assert EulerDiscreteScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler") == scheduler
    assert [path.name for path in (tmp_path / "model" / "scheduler").iterdir()] == ["scheduler_config.json"]
    saved = json.loads((tmp_path / "model" / "scheduler" / "scheduler_config.json").read_text())
    assert saved["_class_name"] == "EulerDiscreteScheduler"
    assert saved["skip_prk_steps"] is True
    assert not any(key.startswith("_use") for key in saved)


def test_folders_that_can_t_be_read_or_written_are_errors(tmp_path):
    with pytest.raises(MissingFileError, match=r"scheduler_config\.json"):
        DDIMScheduler.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="JSON"):
        DDIMScheduler.from_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("[]")
    with pytest.raises(ConfigError):
        DDIMScheduler.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        DDIMScheduler().save_pretrained(tmp_path / "file")


def test_a_users_mistake_is_a_value_error():
    with pytest.raises(ValueError, match="steps"):
        DDIMScheduler().levels(0)
    assert issubclass(UnsupportedError, UsageError)


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    EulerDiscreteScheduler(beta_end=0.012).save_pretrained(tmp_path / "scheduler")
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetched(name: str, **options: Any) -> Path:
        asked.append((name, options))
        return tmp_path

    monkeypatch.setattr("sfumato.schedulers.value.fetch", fetched)
    scheduler = EulerDiscreteScheduler.from_pretrained("owner/name", subfolder="scheduler", revision="fp16")
    assert scheduler.beta_end == 0.012
    assert asked[0][0] == "owner/name"
    assert asked[0][1]["only"] == ["scheduler/scheduler_config.json"]
    assert asked[0][1]["revision"] == "fp16"


def test_joined_names_set_the_spacing() -> None:
    base = EulerDiscreteScheduler(beta_end=0.012)
    joined = scheduler_for(base=base, sampler="DPM++ 2M Karras")
    assert (joined.sampler, joined.spacing) == ("dpmpp_2m", "karras")
    assert scheduler_for(base=base, sampler="DPM++ 2M Karras", spacing="trailing").spacing == "trailing"


def test_a_network_with_edm_s_preconditioning_keeps_to_schedulers_that_tell_it_log_sigma():
    base = EDMEulerScheduler(sigma_data=1.0, prediction_type="v_prediction")
    scheduler = scheduler_for(base=base, sampler="DPM++ 2M SDE Exponential")
    assert isinstance(scheduler, EDMDPMSolverMultistepScheduler)
    assert (scheduler.sampler, scheduler.spacing, scheduler.sigma_data) == ("dpmpp_2m_sde", "exponential", 1.0)
    assert scheduler_for(base=scheduler, sampler="Euler").answer == base.answer == "v_prediction"
    for options in ({"sampler": "Heun"}, {"spacing": "trailing"}):
        with pytest.raises(UnsupportedError, match="EDM's preconditioning"):
            scheduler_for(base=base, **options)
    for options in ({"sigma_data": 0.0}, {"sigma_min": 90.0}, {"rho": -1.0}):
        with pytest.raises(OptionError, match="give"):
            EDMEulerScheduler(**options)


@pytest.mark.parametrize("data", [0.5, 1.3])
def test_edm_s_answers_are_karras_preconditioning(data):
    """Table 1 (EDM), in the data's own units."""
    scheduler = EDMEulerScheduler(sigma_data=data)
    x, answer = torch.randn(8), torch.randn(8)
    for sigma, inner, timestep in zip(
        (80.0, 0.002), (s for s in scheduler.levels(2).sigmas), scheduler.levels(2).timesteps, strict=False
    ):
        assert inner * scheduler.unit == pytest.approx(sigma)
        assert timestep == pytest.approx(math.log(sigma) / 4)
        assert network_scale(inner) / scheduler.unit == pytest.approx(1 / math.sqrt(sigma**2 + data**2))
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / math.sqrt(sigma**2 + data**2)
        found = denoised_from(answer, x / scheduler.unit, inner, scheduler.answer) * scheduler.unit
        torch.testing.assert_close(found, skip * x + out * answer)
