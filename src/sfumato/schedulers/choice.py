"""Choosing a scheduler by a config's class name, or by the names of a sampler and a spacing."""

from collections.abc import Mapping
from typing import Any, get_args

from sfumato.diffusion.samplers import SPACINGS, find_sampler_and_spacing
from sfumato.errors import ConfigError, UnknownNameError, UnsupportedError
from sfumato.schedulers.options import SCHEDULERS_OF_THE_FIELD, one_of
from sfumato.schedulers.unavailable import UnavailableScheduler
from sfumato.schedulers.value import SCHEDULERS, Scheduler, TimestepSpacing

_FREE_SPACINGS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}


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
    """`base` with another sampler, another spacing or both, on its own noise schedule.

    A sampler's name may end in a spacing ("DPM++ 2M Karras"); a `spacing` given as well goes before it.
    Raises UnknownNameError for an unknown name, UnsupportedError for a spacing that the sampler's scheduler hasn't, or for a spacing
    alone where the model's own scheduler is unavailable.
    """
    if sampler is None and spacing is None:
        return base
    kind = type(base)
    options: dict[str, Any] = {}
    if sampler is not None:
        info, joined = find_sampler_and_spacing(sampler)
        spacing = spacing or joined
        kind = next(kind for kind in SCHEDULERS.values() if kind.sampler == info.name)
        # Classes whose defaults are not for latents (they clip to [-1, 1], or start by Runge-Kutta) must be told, as pipelines do.
        said = base.config.keys() - base.config["_use_default_values"]
        options = {
            key: value for key, value in {"clip_sample": False, "skip_prk_steps": True}.items() if key not in said
        }
    elif isinstance(base, UnavailableScheduler):
        base.refuse()
    if spacing is not None:
        one_of("spacing", spacing, SPACINGS)
        options |= dict.fromkeys(_FREE_SPACINGS.values(), False)
        options |= (
            {"timestep_spacing": spacing} if spacing in get_args(TimestepSpacing) else {_FREE_SPACINGS[spacing]: True}
        )
    own = kind.options()
    if spacing in _FREE_SPACINGS and _FREE_SPACINGS[spacing] not in own:
        raise UnsupportedError(
            f"{spacing} spacing is not for {kind.sampler}; use {', '.join(SPACINGS[:3])}, or another sampler."
        )
    return kind.from_config(base, **{option: value for option, value in options.items() if option in own})
