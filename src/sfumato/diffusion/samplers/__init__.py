"""The samplers and the schedules, found by any of their names.

A sampler is a generator function of x and the levels to visit (see `sfumato.diffusion.conversation`); a schedule says which levels
(see `sfumato.diffusion.schedules`). AUTOMATIC1111's, k-diffusion's and diffusers' names all lead to the same ones, whatever their case.
"""

from sfumato.diffusion.samplers.info import SamplerInfo
from sfumato.diffusion.samplers.table import SAMPLERS
from sfumato.diffusion.schedules import SCHEDULES, ScheduleInfo
from sfumato.errors import UnknownNameError

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "SPACINGS",
    "SamplerInfo",
    "ScheduleInfo",
    "find_sampler",
    "find_sampler_and_spacing",
    "find_spacing",
]

AUTOMATIC = "automatic"
"""The schedule that AUTOMATIC1111's web UI has for a sampler by itself."""

SPACINGS: tuple[str, ...] = (*SCHEDULES, AUTOMATIC)
"""The names of the schedules."""


def _flat(name: str) -> str:
    return " ".join(name.lower().split())


_BY_NAME = {_flat(name): info for info in SAMPLERS.values() for name in (info.name, info.title, *info.aliases)}
_SPACINGS_BY_NAME = {_flat(name): info.name for info in SCHEDULES.values() for name in (info.name, info.title)} | {
    AUTOMATIC: AUTOMATIC
}


def find_sampler(name: str) -> SamplerInfo:
    """The sampler of that name, title or alias, whatever its case. Raises UnknownNameError with the nearest names."""
    info = _BY_NAME.get(_flat(name)) or _BY_NAME.get(_flat(name).removesuffix("scheduler"))
    if info is None:
        raise UnknownNameError(
            "sampler", name, [known for info in SAMPLERS.values() for known in (info.name, info.title)]
        )
    return info


def find_spacing(name: str) -> str:
    """The schedule's own name, by that or by the web UI's, whatever its case. Raises UnknownNameError with the nearest names."""
    found = _SPACINGS_BY_NAME.get(_flat(name))
    if found is None:
        raise UnknownNameError("schedule", name, SPACINGS)
    return found


def find_sampler_and_spacing(name: str) -> tuple[SamplerInfo, str | None]:
    """A sampler, and the schedule where the name ends in one, as in "DPM++ 2M Karras". Raises UnknownNameError."""
    words = name.split()
    for first in range(1, len(words)):
        ending = _flat(" ".join(words[first:]))
        if ending in _SPACINGS_BY_NAME:
            return find_sampler(" ".join(words[:first])), _SPACINGS_BY_NAME[ending]
    return find_sampler(name), None
