"""Choosing a scheduler by a config's class name, or by the names of a sampler and a schedule."""

from collections.abc import Mapping
from typing import Any, get_args

from sfumato.diffusion.samplers import find_sampler_and_spacing, find_spacing
from sfumato.errors import ConfigError, UnknownNameError, UnsupportedError
from sfumato.schedulers.consistency import LCMScheduler, TCDScheduler
from sfumato.schedulers.dpm_solver import DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler
from sfumato.schedulers.edm import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, EDMScheduler
from sfumato.schedulers.free import FREE_SPACINGS
from sfumato.schedulers.k_diffusion import KDiffusionScheduler
from sfumato.schedulers.options import SCHEDULERS_OF_THE_FIELD
from sfumato.schedulers.sigma_space import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
)
from sfumato.schedulers.solvers import DEISMultistepScheduler, SASolverScheduler, UniPCMultistepScheduler
from sfumato.schedulers.unavailable import UnavailableScheduler
from sfumato.schedulers.value import SCHEDULERS, Scheduler, TimestepSpacing
from sfumato.schedulers.variance_preserving import DDIMScheduler, DDPMScheduler, PNDMScheduler

CLASSES: Mapping[str, type[Scheduler]] = {
    "plms": PNDMScheduler,
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpm2": KDPM2DiscreteScheduler,
    "dpm2_a": KDPM2AncestralDiscreteScheduler,
    "lms": LMSDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "dpmpp_2s": DPMSolverSinglestepScheduler,
    "unipc": UniPCMultistepScheduler,
    "deis": DEISMultistepScheduler,
    "sa_solver": SASolverScheduler,
    "lcm": LCMScheduler,
    "tcd": TCDScheduler,
}
"""Samplers that people choose by name, and the diffusers class that then draws; the others are KDiffusionScheduler's."""

# Classes whose levels are a matter of their own: no spacing changes them.
_OWN_LEVELS = (LCMScheduler, TCDScheduler, DPMSolverSinglestepScheduler)


def scheduler_from_config(config: Mapping[str, Any]) -> Scheduler:
    """The scheduler that a config names by `_class_name`.

    Where the class is one of diffusers' that Sfumato has not, or an option is not honoured, an UnavailableScheduler: the model
    still opens, and another scheduler can be made from the config. Raises ConfigError without a name, UnknownNameError for one that
    is no scheduler's, and as from_config for values out of range.
    """
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise ConfigError(f"the scheduler config names no class; give _class_name, one of {', '.join(SCHEDULERS)}.")
    if name in SCHEDULERS_OF_THE_FIELD:
        return UnavailableScheduler.because(f"Sfumato has no {name}", config)
    if name not in SCHEDULERS:
        raise UnknownNameError("scheduler", name, SCHEDULERS)
    try:
        return SCHEDULERS[name].from_config(config)
    except UnsupportedError as error:
        return UnavailableScheduler.because(str(error), config)


def scheduler_for(*, base: Scheduler, sampler: str | None = None, spacing: str | None = None) -> Scheduler:
    """`base` with another sampler, another schedule (its spacing) or both, on its own noise schedule.

    Both may be given by any of their names. A sampler's may end in a schedule ("DPM++ 2M Karras"); a `spacing` given as well goes before it.
    The scheduler is of the diffusers class that has both, or else a KDiffusionScheduler; a diffusers class's own name means that class.
    Raises UnknownNameError for an unknown name, UnsupportedError for a schedule alone where the model's own scheduler is unavailable, and for
    what networks with EDM's preconditioning have no scheduler for.
    """
    if sampler is None and spacing is None:
        return base
    if isinstance(base, EDMScheduler):
        return _preconditioned(base, sampler, spacing)
    spacing = None if spacing is None else find_spacing(spacing)
    if sampler is not None:
        info, joined = find_sampler_and_spacing(sampler)
        spacing, name = spacing or joined, info.name
        kind = _class_named(sampler) or CLASSES.get(name, KDiffusionScheduler)
    else:
        if isinstance(base, UnavailableScheduler):
            base.refuse()
        name, kind = base.sampler, type(base)
    if kind is KDiffusionScheduler or (spacing is not None and not _has(kind, spacing)):
        return scheduler_freely(base, name, spacing)
    # Classes whose defaults are not for latents (they clip to [-1, 1], or start by Runge-Kutta) must be told, as pipelines do.
    said = set() if sampler is None else base.config.keys() - base.config["_use_default_values"]
    options: dict[str, Any] = {
        key: value for key, value in {"clip_sample": False, "skip_prk_steps": True}.items() if key not in said
    }
    if spacing is not None:
        options |= dict.fromkeys((*FREE_SPACINGS.values(), "use_lu_lambdas"), False)
        options |= {FREE_SPACINGS[spacing]: True} if spacing in FREE_SPACINGS else {"timestep_spacing": spacing}
    elif sampler is None:
        options = {}
    own = kind.options()
    return kind.from_config(base, **{option: value for option, value in options.items() if option in own})


def _preconditioned(base: EDMScheduler, sampler: str | None, spacing: str | None) -> Scheduler:
    """The same for a network with EDM's preconditioning, which draws nothing by a scheduler that tells it timesteps."""
    options: dict[str, Any] = {}
    kind: type[Scheduler] = type(base)
    if sampler is not None:
        info, joined = find_sampler_and_spacing(sampler)
        spacing = spacing or joined
        match info.name:
            case "euler":
                kind = EDMEulerScheduler
            case "dpmpp_2m" | "dpmpp_2m_sde":
                kind = EDMDPMSolverMultistepScheduler
                options["algorithm_type"] = "dpmsolver++" if info.name == "dpmpp_2m" else "sde-dpmsolver++"
            case _:
                raise UnsupportedError(
                    f"the model has EDM's preconditioning, for which there is no {info.title}; use Euler, DPM++ 2M or DPM++ 2M SDE."
                )
    if spacing is not None:
        options["sigma_schedule"] = find_spacing(spacing)
        if options["sigma_schedule"] not in ("karras", "exponential"):
            raise UnsupportedError(
                f"the model has EDM's preconditioning, for which there is no schedule {options['sigma_schedule']}; use karras or exponential."
            )
    return kind.from_config(base, **options)


def _class_named(name: str) -> type[Scheduler] | None:
    """The diffusers class that a sampler was named by, with or without "Scheduler"."""
    flat = name.strip().lower().removesuffix("scheduler")
    return next((kind for known, kind in SCHEDULERS.items() if known.lower().removesuffix("scheduler") == flat), None)


def _has(kind: type[Scheduler], spacing: str) -> bool:
    if kind in _OWN_LEVELS and spacing not in FREE_SPACINGS:
        return False
    return spacing in get_args(TimestepSpacing) or FREE_SPACINGS.get(spacing) in kind.options()


def scheduler_freely(base: Scheduler, sampler: str, spacing: str | None) -> KDiffusionScheduler:
    """The sampler on the schedule, as the web UI has them, on the noise schedule of `base`; what the base says of ends, eta and churn goes along where it has the same sampler."""
    options = {"sampler_name": sampler, **({} if spacing is None else {"schedule": spacing})}
    if isinstance(base, KDiffusionScheduler):
        if sampler != base.sampler:
            options |= {"eta": None, "s_churn": 0.0, "s_noise": 1.0}
        return KDiffusionScheduler.from_config(base, **options)
    # Ends of another class's spacing are not these.
    return KDiffusionScheduler.from_config(base, **options, sigma_min=None, sigma_max=None)
