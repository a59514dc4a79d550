"""Choosing a scheduler by a config's class name, or by the names of a sampler and a spacing."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from sfumato.diffusion.samplers import SPACINGS, find_sampler_and_spacing
from sfumato.errors import ConfigError, UnknownNameError, UnsupportedError
from sfumato.schedulers.value import SCHEDULERS, Scheduler, TimestepSpacing, one_of

_FREE_SPACINGS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}


def scheduler_from_config(config: Mapping[str, Any]) -> Scheduler:
    """The scheduler that a config names by `_class_name`. Raises ConfigError without a name, UnknownNameError for an unknown one."""
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise ConfigError(f"the scheduler config names no class; give _class_name, one of {', '.join(SCHEDULERS)}.")
    if name not in SCHEDULERS:
        raise UnknownNameError("scheduler", name, SCHEDULERS)
    return SCHEDULERS[name].from_config(config)


def scheduler_for(*, base: Scheduler, sampler: str | None = None, spacing: str | None = None) -> Scheduler:
    """`base` with another sampler, another spacing or both, on its own noise schedule.

    A sampler's name may end in a spacing ("DPM++ 2M Karras"); a `spacing` given as well goes before it.
    Raises UnknownNameError for an unknown name, UnsupportedError for a spacing that the sampler's scheduler hasn't.
    """
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
    if spacing is not None:
        one_of("spacing", spacing, SPACINGS)
        options |= dict.fromkeys(_FREE_SPACINGS.values(), False)
        options |= (
            {"timestep_spacing": spacing} if spacing in get_args(TimestepSpacing) else {_FREE_SPACINGS[spacing]: True}
        )
    own = {field.name for field in fields(kind)}
    if spacing in _FREE_SPACINGS and _FREE_SPACINGS[spacing] not in own:
        raise UnsupportedError(
            f"{spacing} spacing is not for {kind.sampler}; use {', '.join(SPACINGS[:3])}, or another sampler."
        )
    return kind.from_config(base, **{option: value for option, value in options.items() if option in own})
