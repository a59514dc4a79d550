"""Pictures as another program would make them: noise, words, schedule and rounding set together, each unless something else is said.

| | `a1111` | `diffusers` |
|---|---|---|
| noise of a seed (`rng`) | `nv`, as its sources GPU and NV | `cpu`; a generator that is passed is followed |
| words (`emphasis`) | `a1111` | `none` |
| scheduler | k-diffusion's sampler on the web UI's own schedule for it | the diffusers class of the sampler |
| a picture begun from (`begun_as`) | `a1111`: a step more, the seed's first noise; in `hires_fix` `a1111_exact` | `diffusers` |
| `rounding` of the picture | `down`: `astype(uint8)` | `nearest`: `round()` |

Nothing of it is a mode: a recipe holds what was set, and not the program's name.
Source: the web UI's `modules/processing.py` and `modules/rng.py`; diffusers' `VaeImageProcessor.numpy_to_pil`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, get_args

import torch

from sfumato.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from sfumato.recipe import Emphasis, Rounding
    from sfumato.schedulers import Scheduler

Compat: TypeAlias = Literal["a1111", "diffusers"]
"""Whose pictures: AUTOMATIC1111's web UI's, or those of diffusers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """What a program does where nothing else is asked of it; the values are those of a recipe's fields."""

    rng: str
    emphasis: "Emphasis"
    rounding: "Rounding"


HABITS: dict[str, Habits] = {
    "a1111": Habits(rng="nv", emphasis="a1111", rounding="down"),
    "diffusers": Habits(rng="cpu", emphasis="none", rounding="nearest"),
}


def check_compat(value: object) -> Compat:
    """Whose pictures are meant. Raises UnknownNameError."""
    if not isinstance(value, str) or value not in HABITS:
        raise UnknownNameError("compat", str(value), HABITS)
    return value  # pyright: ignore[reportReturnType]


def scheduler_as(
    compat: Compat, *, base: "Scheduler", sampler: str | None = None, spacing: str | None = None
) -> "Scheduler":
    """`base` with a sampler and a schedule, as `scheduler_for` makes it, in the form that the program has of it.

    `a1111`: any sampler by k-diffusion's formulas; where no schedule is asked for, by name or by an option of the base such as
    `use_karras_sigmas`, the web UI's own for the sampler. `diffusers`: its class for the sampler, if it has one.
    Raises as `scheduler_for`.
    """
    from sfumato.diffusion.samplers import AUTOMATIC, find_sampler_and_spacing, find_spacing
    from sfumato.schedulers import CLASSES, KDiffusionScheduler, scheduler_for, scheduler_freely
    from sfumato.schedulers.free import FREE_SPACINGS
    from sfumato.schedulers.unavailable import UnavailableScheduler

    if compat == "diffusers":
        if sampler is None and isinstance(base, KDiffusionScheduler) and base.sampler in CLASSES:
            sampler, spacing = base.sampler, spacing or (None if base.schedule == AUTOMATIC else base.schedule)
        return scheduler_for(base=base, sampler=sampler, spacing=spacing)
    spacing = None if spacing is None else find_spacing(spacing)
    if sampler is not None:
        info, joined = find_sampler_and_spacing(sampler)
        return scheduler_freely(base, info.name, spacing or joined or AUTOMATIC)
    if isinstance(base, UnavailableScheduler):
        base.refuse()
    if isinstance(base, KDiffusionScheduler):
        return base if spacing is None else scheduler_freely(base, base.sampler, spacing)
    said = [name for name, option in FREE_SPACINGS.items() if getattr(base, option, False)]
    return scheduler_freely(base, base.sampler, spacing or (said[0] if said else AUTOMATIC))


def rounding_of(options: dict[str, Any]) -> "Rounding":
    """How a call's pictures are rounded to 8 bits, taken out of its options. Raises OptionError."""
    from sfumato.recipe import Rounding

    value = options.pop("rounding", None)
    if value not in (None, *get_args(Rounding)):
        raise OptionError(f"rounding must be one of {', '.join(get_args(Rounding))}, not {value!r}")
    return "nearest" if value is None else value


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def with_compat(call: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A pipeline's call that takes `compat` too: for its time the scheduler is the program's, and what is not said is what it does."""

    @functools.wraps(call)
    def compatible(pipe: S, *args: P.args, **options: P.kwargs) -> R:
        compat = options.pop("compat", None)
        if compat is None:
            return call(pipe, *args, **options)
        said: dict[str, Any] = {**options}
        for name, value in _habits(check_compat(compat), said.get("generator")).items():
            if said.get(name) is None:
                said[name] = value
        if compat == "a1111" and said.get("image") is not None and said.get("begun_as") is None:
            said["begun_as"] = "a1111"
        own: Scheduler = pipe.scheduler  # pyright: ignore[reportAttributeAccessIssue]
        pipe.scheduler = scheduler_as(check_compat(compat), base=own)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return call(pipe, *args, **said)
        finally:
            pipe.scheduler = own  # pyright: ignore[reportAttributeAccessIssue]

    return compatible


def _habits(compat: Compat, generator: object) -> dict[str, Any]:
    """The options of a call for the program's habits; a generator says itself whose noise it makes, where that is the program's."""
    habits = HABITS[compat]
    generators = generator if isinstance(generator, list | tuple) else [generator]
    followed = any(isinstance(one, torch.Generator) and (compat == "diffusers" or one.device.type == "cuda") for one in generators)  # fmt: skip
    return {"emphasis": habits.emphasis, "rounding": habits.rounding} | ({} if followed else {"rng": habits.rng})
