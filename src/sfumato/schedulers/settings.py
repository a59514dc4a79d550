"""The scheduler that another program's picture was made with, from its settings, and what of them is not carried over."""

from collections.abc import Mapping
from typing import Any

from sfumato.diffusion.samplers import AUTOMATIC, find_sampler, find_spacing
from sfumato.errors import OptionError, ScheduleError, UnknownNameError, UnsupportedError
from sfumato.metadata import Omission, Settings
from sfumato.schedulers.choice import scheduler_for
from sfumato.schedulers.k_diffusion import KDiffusionScheduler
from sfumato.schedulers.unavailable import UnavailableScheduler
from sfumato.schedulers.value import Scheduler
from sfumato.schedulers.variance_preserving import DDIMScheduler, PNDMScheduler

_OF_DIFFUSERS = ("InvokeAI",)
"""Programs that draw with diffusers' classes; the others draw with k-diffusion's samplers."""

# Samplers that CompVis's code has, which the web UI and NovelAI took over: they visit timesteps of their own, whatever the schedule is, and
# end at the first timestep's level.
_OF_COMPVIS: Mapping[str, type[Scheduler]] = {"ddim": DDIMScheduler, "plms": PNDMScheduler}
_HAVE_COMPVIS = ("AUTOMATIC1111", "NovelAI")
_COMPVIS_OPTIONS: Mapping[str, Any] = {
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}

# What k-diffusion's samplers and schedules have by themselves, so that nothing of the model's own scheduler is left.
_USUAL: Mapping[str, Any] = {
    **dict.fromkeys(("rho", "sigma_min", "sigma_max", "eta", "s_tmax")),
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_noise": 1.0,
}


def scheduler_from_settings(base: Scheduler, settings: Settings) -> tuple[Scheduler, tuple[Omission, ...]]:
    """The scheduler that settings say, on the noise schedule of `base`, and what they say that it has not.

    InvokeAI's is the diffusers class that it used. The others' is k-diffusion's: any sampler on any schedule, with the numbers that the
    settings give. Where no sampler is told, or one that is not here, the model's own is taken. That is named, and so is a number that
    can't be or that the sampler does not act on: what is wrong in settings raises nothing.
    """
    omissions: list[Omission] = []
    sampler = _sampler(settings, base, omissions)
    spacing = _spacing(settings, omissions)
    kind = _OF_COMPVIS.get(sampler or "") if settings.program in _HAVE_COMPVIS else None
    if sampler is None or settings.program in _OF_DIFFUSERS:
        scheduler = _of_diffusers(base, settings.sampler if sampler else None, spacing, omissions)
    elif kind is not None:
        options = {name: value for name, value in _COMPVIS_OPTIONS.items() if name in kind.options()}
        scheduler = kind.from_config(base, **options)
    else:
        options = {"sampler_name": sampler, "schedule": spacing or AUTOMATIC, **_USUAL}
        scheduler = KDiffusionScheduler.from_config(base, **options)
    return _with_numbers(scheduler, settings.sampling, omissions), tuple(omissions)


def _sampler(settings: Settings, base: Scheduler, omissions: list[Omission]) -> str | None:
    """The sampler's own name; None for the model's."""
    if settings.sampler is None:
        if not any(one.name in ("sampler", "sampler_name", "scheduler") for one in settings.omissions):
            omissions.append(Omission(name="sampler", value="", why=f"it is not told; {_own(base)} is taken"))
        return None
    try:
        return find_sampler(settings.sampler).name
    except UnknownNameError:
        why = f"it is not here; {_own(base)} is taken"
        omissions.append(Omission(name="sampler", value=settings.sampler, why=why))
        return None


def _own(base: Scheduler) -> str:
    return "euler" if isinstance(base, UnavailableScheduler) else base.sampler


def _spacing(settings: Settings, omissions: list[Omission]) -> str | None:
    """The schedule's own name; None for the sampler's or the model's."""
    if settings.schedule is None:
        return None
    try:
        return find_spacing(settings.schedule)
    except UnknownNameError:
        omissions.append(_no_schedule(settings.schedule))
        return None


def _no_schedule(name: str) -> Omission:
    return Omission(name="schedule", value=name, why="it is not here; the sampler's own is taken")


def _of_diffusers(base: Scheduler, sampler: str | None, spacing: str | None, omissions: list[Omission]) -> Scheduler:
    if sampler is None and isinstance(base, UnavailableScheduler):
        sampler = "euler"
    try:
        return scheduler_for(base=base, sampler=sampler, spacing=spacing)
    except UnsupportedError:
        omissions.append(_no_schedule(str(spacing)))
        return scheduler_for(base=base, sampler=sampler)


def _with_numbers(scheduler: Scheduler, numbers: Mapping[str, float], omissions: list[Omission]) -> Scheduler:
    """The scheduler with the numbers that it acts on."""
    for option, value in numbers.items():
        why = f"{type(scheduler).__name__} does not act on it"
        if isinstance(scheduler, KDiffusionScheduler):
            try:
                scheduler = KDiffusionScheduler.from_config(scheduler, **{option: value})
                continue
            except (OptionError, ScheduleError) as error:
                why = str(error).rstrip(".")
        omissions.append(Omission(name=option, value=f"{value:g}", why=why))
    return scheduler
