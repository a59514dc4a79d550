"""The levels that diffusers' classes visit, from their options."""

import math
import operator
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

from sfumato.diffusion.spacing import Levels, leading, linspace, sigmas_at, trailing
from sfumato.errors import ScheduleError
from sfumato.schedulers.value import Scheduler

FinalSigma: TypeAlias = Literal["zero", "sigma_min"]


def whole_steps(steps: object) -> int:
    """The number of steps. Raises ScheduleError unless it is a whole number."""
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise ScheduleError(f"{steps!r} is no number of steps; give a whole number (usual: 20 to 50).")
    return operator.index(cast(Any, steps))


def timesteps_of(scheduler: Scheduler, steps: int, *, whole: bool = True) -> tuple[float, ...]:
    """The timesteps of its timestep_spacing; linspace's are rounded where `whole`."""
    steps, last = whole_steps(steps), scheduler.num_train_timesteps
    match scheduler.timestep_spacing:
        case "leading":
            return leading(last, steps, offset=scheduler.steps_offset)
        case "trailing":
            return trailing(last, steps)
        case "linspace":
            return linspace(last, steps, whole=whole)


def spare_timesteps(scheduler: Scheduler, steps: int, usable: int) -> tuple[float, ...]:
    """The same of one level more, where the last is left out, on the first `usable` timesteps: as DPM-Solver and its kin have them."""
    if steps >= usable and scheduler.spacing != "trailing":
        raise ScheduleError(
            f"{steps} steps of {type(scheduler).__name__} need {steps + 1} timesteps of {usable}; ask for fewer steps."
        )
    match scheduler.spacing:
        case "leading":
            return leading(usable, steps + 1, offset=scheduler.steps_offset)[:-1]
        case "trailing":
            return trailing(usable, steps)
        case _:
            return linspace(usable, steps + 1)[:-1]


def distilled_timesteps(train_steps: int, steps: int, original: int) -> tuple[float, ...]:
    """Timesteps among the `original` ones that a network was distilled on, spread evenly from the last down.

    Raises ScheduleError for more steps than those.
    """
    if not 1 <= steps <= original <= train_steps:
        raise ScheduleError(
            f"{steps} steps can't be taken of the {original} that the network was distilled on; ask for 1 to {original} (usual: 4 to 8), "
            "or set original_inference_steps."
        )
    stride = train_steps // original
    # Cut as numpy's linspace has them, whose rounding decides where the division comes out whole.
    return tuple(float((original - math.floor(step * (original / steps))) * stride - 1) for step in range(steps))


def between_sigmas(scheduler: Scheduler, timesteps: tuple[float, ...]) -> Levels:
    """Levels at timesteps, with 0 after them."""
    return Levels(sigmas=(*sigmas_at(scheduler.noise_schedule, timesteps), 0.0), timesteps=timesteps)


def strided(scheduler: Scheduler, timesteps: tuple[float, ...], *, to_zero: bool) -> Levels:
    """Levels whose steps aim a fixed stride of timesteps lower, whatever is visited next."""
    schedule, jump = scheduler.noise_schedule, stride(scheduler, len(timesteps))
    last = 0.0 if to_zero else schedule.sigma(0)
    targets = tuple(last if t < jump else schedule.sigma(t - jump) for t in timesteps)
    return Levels(sigmas=(*sigmas_at(schedule, timesteps), targets[-1]), timesteps=timesteps, targets=targets)


def stride(scheduler: Scheduler, steps: int) -> int:
    """How many timesteps a step of DDIM, PNDM goes."""
    return scheduler.num_train_timesteps // steps


def ending(levels: Levels, last: float) -> Levels:
    """The levels with another last one."""
    return Levels(sigmas=(*levels.sigmas[:-1], last), timesteps=levels.timesteps)


def final_sigma(scheduler: Scheduler, final: FinalSigma) -> float:
    """The last level that final_sigmas_type names."""
    return 0.0 if final == "zero" else scheduler.noise_schedule.sigma(0)


def cut(timestep: float) -> float:
    """A timestep without its fraction."""
    return float(math.floor(timestep))


Rounding: TypeAlias = Callable[[float], float]
"""What becomes of a timestep that lies between whole ones."""
