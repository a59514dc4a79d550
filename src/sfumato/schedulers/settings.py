"""The scheduler that a picture of AUTOMATIC1111's web UI was made with, from what its `parameters` text says."""

from collections.abc import Mapping
from typing import Any

from sfumato.diffusion.samplers import AUTOMATIC, find_sampler_and_spacing, find_spacing
from sfumato.errors import OptionError
from sfumato.infotext import SCHEDULE_SETTINGS
from sfumato.schedulers.k_diffusion import KDiffusionScheduler
from sfumato.schedulers.value import Scheduler
from sfumato.schedulers.variance_preserving import DDIMScheduler, PNDMScheduler

# These two visit timesteps of their own there, whatever the schedule type says, and end at the first one's level.
_OWN_TIMESTEPS: Mapping[str, type[Scheduler]] = {"ddim": DDIMScheduler, "plms": PNDMScheduler}


def scheduler_from_settings(base: Scheduler, settings: Mapping[str, str]) -> Scheduler:
    """The scheduler that the settings of an infotext say, on the noise schedule of `base`.

    Reads "Sampler" (which in older texts ends in the schedule), "Schedule type" and the settings of `SCHEDULE_SETTINGS`; what is not
    there is the web UI's default. Raises UnknownNameError for a sampler or schedule that isn't known, OptionError for a setting that is no number
    or does nothing for that sampler.
    """
    info, joined = find_sampler_and_spacing(settings.get("Sampler", "Euler"))
    spacing = find_spacing(settings["Schedule type"]) if "Schedule type" in settings else joined or AUTOMATIC
    if info.name in _OWN_TIMESTEPS:
        kind = _OWN_TIMESTEPS[info.name]
        told = {
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
        }
        return kind.from_config(base, **{option: value for option, value in told.items() if option in kind.options()})
    options: dict[str, Any] = {"sampler_name": info.name, "schedule": spacing}
    for name, option in SCHEDULE_SETTINGS.items():
        if name in settings:
            options[option] = _number(name, settings[name])
    return KDiffusionScheduler.from_config(base, **{"sigma_min": None, "sigma_max": None, **options})


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise OptionError(f"{name} is {value!r} in the picture's settings; expected a number.") from None
