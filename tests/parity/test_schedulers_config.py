"""Options, defaults and configs against diffusers: the same names, the same values, from class to class and from file to file."""

import inspect
import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.errors import OptionError
from sfumato.schedulers import SCHEDULERS as ALL
from sfumato.schedulers import scheduler_from_config
from sfumato.schedulers.options import OPTIONS_OF_THE_FIELD, OWN_OPTIONS, SCHEDULERS_OF_THE_FIELD

SCHEDULERS = {name: kind for name, kind in ALL.items() if hasattr(diffusers, name)}

# The reference's own: torch tensors in numpy functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

# As the model folders have them (Stable Diffusion 1.4; 2.1 at 768 pixels; a folder saved by a tool with DPM++).
STABLE_DIFFUSION_1_4: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
STABLE_DIFFUSION_2_1: dict[str, Any] = {
    **STABLE_DIFFUSION_1_4,
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.8.0",
    "prediction_type": "v_prediction",
}
DPM: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "algorithm_type": "dpmsolver++",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "solver_order": 2,
    "solver_type": "midpoint",
    "thresholding": False,
    "trained_betas": None,
    "use_karras_sigmas": True,
}
CONFIGS = [STABLE_DIFFUSION_1_4, STABLE_DIFFUSION_2_1, DPM]


def options(kind: type) -> list[str]:
    names = inspect.signature(kind.__init__).parameters
    return [name for name in names if name not in ("self", "args", "kwargs") and not name.startswith("_")]


def assert_same(config: dict[str, Any], reference: Any) -> None:
    # Ours leaves infinity out, which JSON has not.
    expected = {name: value for name in options(type(reference)) if (value := reference.config[name]) != -math.inf}
    got = {name: list(v) if isinstance(v := config[name], tuple) else v for name in expected}
    assert got == expected


def refused(name: str, config: dict[str, Any]) -> bool:
    """Whether diffusers' class refuses a config, which ours reads."""
    return name == "SASolverScheduler" and "algorithm_type" in config


def test_sa_solver_and_dpm_solver_read_each_other_s_configs():
    sa = SCHEDULERS["SASolverScheduler"].from_config(DPM)
    assert sa.algorithm_type == "data_prediction"
    for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"):
        assert SCHEDULERS[name].from_config(sa.config).levels(5).steps == 5


@pytest.mark.parametrize("name", SCHEDULERS)
def test_options_and_defaults_are_those_of_diffusers(name):
    reference = getattr(diffusers, name)
    assert_same(SCHEDULERS[name]().config, reference())
    ours, theirs = options(SCHEDULERS[name]), options(reference)
    if name.startswith(
        "EDM"
    ):  # whose options are given by name, while a noise schedule's, which they have not, come first
        with pytest.raises(OptionError, match="num_train_timesteps"):
            SCHEDULERS[name](0.002, 80.0)
        assert not set(theirs) - set(ours)
        return
    assert ours[:5] == theirs[:5]  # those that are given by position
    assert set(ours) - set(theirs) <= {"sigma_min", "sigma_max", "use_beta_sigmas", "timestep_spacing", "steps_offset"}


def test_our_own_class_s_options_are_none_of_theirs_but_for_those_of_all():
    own = set(ALL["KDiffusionScheduler"].options())
    assert own - OPTIONS_OF_THE_FIELD == OWN_OPTIONS
    assert set(ALL) - set(SCHEDULERS) == {"KDiffusionScheduler"}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["_class_name"])
def test_a_config_becomes_what_it_becomes_in_diffusers(name, config):
    if refused(name, config):
        return
    assert_same(SCHEDULERS[name].from_config(config).config, getattr(diffusers, name).from_config(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["_class_name"])
def test_options_survive_a_walk_through_all_classes(config):
    ours, theirs = scheduler_from_config(config), getattr(diffusers, config["_class_name"]).from_config(config)
    walk = [*SCHEDULERS, *reversed(SCHEDULERS), *list(SCHEDULERS)[::2], *list(SCHEDULERS)[::-3]]
    for name in walk:
        try:
            further = getattr(diffusers, name).from_config(theirs.config)
        except (ValueError, NotImplementedError):
            continue  # SA-Solver and DEIS have words for what DPM-Solver does that their classes refuse from each other; ours read them
        ours, theirs = SCHEDULERS[name].from_config(ours.config), further
        assert_same(ours.config, theirs)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_saved_is_opened_by_diffusers_and_back(name, tmp_path):
    mine = SCHEDULERS[name].from_config(STABLE_DIFFUSION_2_1, beta_end=0.013)
    mine.save_pretrained(tmp_path / "ours")
    theirs = getattr(diffusers, name).from_pretrained(tmp_path / "ours")
    assert_same(mine.config, theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    assert SCHEDULERS[name].from_pretrained(tmp_path / "theirs") == mine
    assert SCHEDULERS[name].from_pretrained(tmp_path, subfolder="ours") == mine


@pytest.mark.parametrize("name", SCHEDULERS)
def test_diffusers_takes_our_config_as_its_own(name):
    mine = SCHEDULERS[name].from_config(STABLE_DIFFUSION_1_4)
    assert_same(mine.config, getattr(diffusers, name).from_config(mine.config))
    theirs = getattr(diffusers, name).from_config(STABLE_DIFFUSION_1_4)
    assert SCHEDULERS[name].from_config(theirs.config) == mine


def test_every_option_of_the_compatible_classes_is_known():
    kinds = [getattr(diffusers, name) for name in diffusers.DDIMScheduler._compatibles if hasattr(diffusers, name)]
    installed = [kind for kind in kinds if "Dummy" not in type(kind).__name__]
    compatible = {name for kind in installed for name in (kind.__name__, *kind._compatibles)}
    assert compatible <= SCHEDULERS_OF_THE_FIELD | set(SCHEDULERS)
    assert not SCHEDULERS_OF_THE_FIELD & set(SCHEDULERS)
    for kind in kinds:
        if "Dummy" not in type(kind).__name__:  # classes whose extra dependency is not installed
            assert set(options(kind)) <= OPTIONS_OF_THE_FIELD, kind.__name__


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("DDPMScheduler", kind) for kind in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")),
        ("HeunDiscreteScheduler", "exp"),
    ],
)
def test_noise_tables_are_equal_to_the_last_bit(name, kind):
    for betas in ({"beta_start": 0.00085, "beta_end": 0.012}, {"beta_start": 0.0001, "beta_end": 0.02}):
        for steps in (1000, 77):
            reference = getattr(diffusers, name)(beta_schedule=kind, num_train_timesteps=steps, **betas)
            schedule = NoiseSchedule(kind=kind, steps=steps, **betas)
            assert torch.equal(schedule.alphas_cumprod, reference.alphas_cumprod)


def test_trained_betas_are_taken_as_they_are():
    betas = [0.001 + 0.0001 * i for i in range(50)]
    reference = diffusers.EulerDiscreteScheduler(trained_betas=betas, num_train_timesteps=50)
    mine = SCHEDULERS["EulerDiscreteScheduler"](trained_betas=betas, num_train_timesteps=50)
    assert torch.equal(mine.noise_schedule.alphas_cumprod, reference.alphas_cumprod)
    assert_same(mine.config, reference)


def test_sigmas_become_timesteps_as_in_diffusers():
    reference = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    table = np.log((((1 - reference.alphas_cumprod) / reference.alphas_cumprod) ** 0.5).numpy())
    for sigma in np.exp(np.linspace(np.log(0.01), np.log(30), 200)):
        expected = float(reference._sigma_to_t(sigma, table))
        assert NoiseSchedule().timestep(float(sigma)) == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def _soon_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the reference's classes make a table of all timesteps when they are made, in 0.3 s; no config depends on it."""
    for kind in (diffusers.KDPM2DiscreteScheduler, diffusers.KDPM2AncestralDiscreteScheduler):
        monkeypatch.setattr(kind, "set_timesteps", lambda made, *_: setattr(made, "sigmas", torch.zeros(1)))


@pytest.mark.usefixtures("_soon_made")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # diffusers says that such configs are outdated
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("options", [{}, {"steps_offset": 0}, {"steps_offset": 3, "clip_sample": True}], ids=str)
def test_a_pipeline_repairs_the_config_it_is_built_with(name, options):
    config = {**STABLE_DIFFUSION_1_4, **options, "_class_name": name}
    if not options:
        del config["steps_offset"], config["clip_sample"]
    theirs, mine = getattr(diffusers, name).from_config(config), SCHEDULERS[name].from_config(config)
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"))
    pipe = diffusers.StableDiffusionPipeline(**parts, scheduler=theirs, requires_safety_checker=False)
    assert_same(mine.in_pipeline().config, pipe.scheduler)
    for other in SCHEDULERS:
        swapped = SCHEDULERS[other].from_config(mine.in_pipeline().config)
        assert_same(swapped.config, getattr(diffusers, other).from_config(pipe.scheduler.config))
