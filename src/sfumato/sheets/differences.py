"""What tells one picture's recipe from another's, in a few words."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sfumato.infotext import SAMPLER_NAMES
from sfumato.recipe import Recipe, UsedAdapter

# What follows from the rest, or from when it was drawn.
_NOT_SAID = frozenset({"pixels_sha256", "safety_scores", "versions", "scheduler", "model_sha256", "exact", "inputs"})
_SHORT = {"guidance_scale": "guidance", "eta_noise_seed_delta": "ENSD"}
# A scheduler's settings that people set.
_OF_SCHEDULER = ("schedule", "timestep_spacing", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


def differences(base: Recipe, one: Recipe) -> list[tuple[str, str]]:
    """Names and values of what `one` has other than `base`, in the recipe's order; the sampler with its schedule."""
    found: list[tuple[str, str]] = []
    for option in fields(Recipe):
        name, before, after = option.name, getattr(base, option.name), getattr(one, option.name)
        if name == "scheduler":
            schedules = [schedule_of(recipe) for recipe in (base, one)]
            if schedules[0] != schedules[1]:
                found.append(("schedule", schedules[1]))
        elif name in _NOT_SAID or before == after:
            continue
        elif isinstance(after, Mapping):
            found += [(str(key), said(value)) for key, value in after.items() if before.get(key) != value]
        else:
            value = SAMPLER_NAMES.get(one.sampler, one.sampler) if name == "sampler" else said(after)
            found.append((_SHORT.get(name, name.replace("_", " ")), value))
    return found


def said(value: Any) -> str:
    """A value of a recipe as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return ", ".join(_adapter(one) if isinstance(one, UsedAdapter) else str(one) for one in value) or "none"
    return str(value)


def _adapter(used: UsedAdapter) -> str:
    weights = sorted({f"{weight:g}" for weight in used.weights.values()})
    return f"{used.file} {'/'.join(weights)}".strip()


def schedule_of(recipe: Recipe) -> str:
    """The name of a recipe's schedule."""
    for name in _OF_SCHEDULER:
        value = recipe.scheduler.get(name)
        if value is True:
            return name.removeprefix("use_").removesuffix("_sigmas")
    named = recipe.scheduler.get("schedule", recipe.scheduler.get("timestep_spacing"))
    return str(named or "its own")
