"""The schedules: which levels a run visits, by the names of diffusers and of AUTOMATIC1111's web UI.

`leading`, `trailing` and `linspace` are diffusers' (see `sfumato.diffusion.spacing`). The others are the web UI's, computed in
float32 and step by step as k-diffusion computes them: the noise of an SDE sampler is read off its path at millionths of a sigma,
so what their last digit is can be seen in pictures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.spacing import beta, leading, linspace, sigmas_at, trailing
from sfumato.errors import ScheduleError


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """What a schedule lies between: the noise schedule, its first and last levels, and rho where it has one."""

    schedule: NoiseSchedule
    sigma_min: float
    sigma_max: float
    rho: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and math.isfinite(self.sigma_max)):
            raise ScheduleError(
                f"no levels lie between sigma {self.sigma_max} and {self.sigma_min}; give 0 < sigma_min < sigma_max."
            )

    @property
    def timesteps(self) -> tuple[float, float]:
        """The timesteps of the first and the last level."""
        return self.schedule.timestep(self.sigma_max), self.schedule.timestep(self.sigma_min)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleInfo:
    """What is known of a schedule: names, source, and the function of its ends and the steps that gives steps + 1 levels."""

    name: str
    title: str
    function: Callable[[Ends, int], tuple[float, ...]]
    paper: str


def levels_of(name: str, ends: Ends, steps: int) -> tuple[float, ...]:
    """The levels of a schedule by its own name: descending, one more than steps, though `ddim` may have others where they don't divide.

    Raises ScheduleError for steps that it can't have.
    """
    if not 1 <= steps <= ends.schedule.steps:
        raise ScheduleError(f"{steps} steps can't be taken; ask for 1 to {ends.schedule.steps} (usual: 20 to 50).")
    return SCHEDULES[name].function(ends, steps)


def _ending(sigmas: Tensor) -> tuple[float, ...]:
    """The levels as numbers, with 0 after them."""
    return (*(float(sigma) for sigma in sigmas.to(torch.float32)), 0.0)


def _at(schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """Sigmas at timesteps, linear in log sigma between whole ones, as k-diffusion has them."""
    log_sigmas = schedule.sigmas.to(torch.float32).log()
    part = timesteps.frac()
    return ((1 - part) * log_sigmas[timesteps.floor().long()] + part * log_sigmas[timesteps.ceil().long()]).exp()


def _uniform(ends: Ends, steps: int) -> tuple[float, ...]:
    return _ending(_at(ends.schedule, torch.linspace(ends.schedule.steps - 1, 0, steps)))


def _normal(ends: Ends, steps: int) -> tuple[float, ...]:
    return _ending(_at(ends.schedule, torch.linspace(*ends.timesteps, steps)))


def _sgm_uniform(ends: Ends, steps: int) -> tuple[float, ...]:
    return _ending(_at(ends.schedule, torch.linspace(*ends.timesteps, steps + 1)[:-1]))


def _karras(ends: Ends, steps: int) -> tuple[float, ...]:
    rho = ends.rho or 7.0
    top, bottom = ends.sigma_max ** (1 / rho), ends.sigma_min ** (1 / rho)
    return _ending((top + torch.linspace(0, 1, steps) * (bottom - top)) ** rho)  # Eq. 5


def _exponential(ends: Ends, steps: int) -> tuple[float, ...]:
    return _ending(torch.linspace(math.log(ends.sigma_max), math.log(ends.sigma_min), steps).exp())


def _polyexponential(ends: Ends, steps: int) -> tuple[float, ...]:
    ramp = torch.linspace(1, 0, steps) ** (ends.rho or 1.0)
    return _ending(torch.exp(ramp * (math.log(ends.sigma_max) - math.log(ends.sigma_min)) + math.log(ends.sigma_min)))


def _simple(ends: Ends, steps: int) -> tuple[float, ...]:
    stride = ends.schedule.steps / steps
    return _ending(torch.stack([ends.schedule.sigmas[-(1 + int(i * stride))] for i in range(steps)]))


def _ddim(ends: Ends, steps: int) -> tuple[float, ...]:
    stride = max(ends.schedule.steps // steps, 1)
    return _ending(ends.schedule.sigmas[1::stride].flip(0))


def _beta(ends: Ends, steps: int) -> tuple[float, ...]:
    return _ending(torch.tensor(beta(ends.sigma_max, ends.sigma_min, steps)))


def _kl_optimal(ends: Ends, steps: int) -> tuple[float, ...]:
    # Even in the angle whose tangent is sigma, the best for Gaussian data. It ends at sigma_min and not at 0.
    low, high = (torch.arctan(torch.tensor(sigma)) for sigma in (ends.sigma_min, ends.sigma_max))
    place = torch.arange(steps + 1) / steps
    return tuple(float(sigma) for sigma in torch.tan(place * low + (1.0 - place) * high))


# Levels that were found for ten steps of Stable Diffusion 1.5 and of XL.
_ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGNED_XL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def _aligned(found: Sequence[float], steps: int) -> tuple[float, ...]:
    """The levels found, or others between them, evenly spaced by number along straight lines in log sigma."""
    if steps == len(found):
        return _ending(torch.tensor(found))
    places = np.linspace(1, 0, steps) if steps > 1 else np.zeros(1)
    between = np.exp(np.interp(places, np.linspace(0, 1, len(found)), np.log(found[::-1])))
    return _ending(torch.from_numpy(between))  # pyright: ignore[reportUnknownMemberType]


_SCHEDULES = (
    ScheduleInfo(
        name="leading",
        title="leading",
        function=lambda ends, steps: (*sigmas_at(ends.schedule, leading(ends.schedule.steps, steps, offset=1)), 0.0),
        paper="diffusers; Lin et al. 2023, arXiv:2305.08891, Table 2",
    ),
    ScheduleInfo(
        name="trailing",
        title="trailing",
        function=lambda ends, steps: (*sigmas_at(ends.schedule, trailing(ends.schedule.steps, steps)), 0.0),
        paper="diffusers; Lin et al. 2023, arXiv:2305.08891, Table 2",
    ),
    ScheduleInfo(
        name="linspace",
        title="linspace",
        function=lambda ends, steps: (
            *sigmas_at(ends.schedule, linspace(ends.schedule.steps, steps, whole=False)),
            0.0,
        ),
        paper="diffusers; Lin et al. 2023, arXiv:2305.08891, Table 2",
    ),
    ScheduleInfo(name="karras", title="Karras", function=_karras, paper="Karras et al. 2022, arXiv:2206.00364, Eq. 5"),
    ScheduleInfo(
        name="exponential",
        title="Exponential",
        function=_exponential,
        paper="Lu et al. 2022, arXiv:2206.00927, section 3.4; k-diffusion",
    ),
    ScheduleInfo(name="polyexponential", title="Polyexponential", function=_polyexponential, paper="k-diffusion"),
    ScheduleInfo(name="uniform", title="Uniform", function=_uniform, paper="k-diffusion: even in timesteps"),
    ScheduleInfo(
        name="sgm_uniform",
        title="SGM Uniform",
        function=_sgm_uniform,
        paper="Stability AI, generative-models: even in timesteps, the last one left out",
    ),
    ScheduleInfo(
        name="simple", title="Simple", function=_simple, paper="ComfyUI: every so many timesteps from the last"
    ),
    ScheduleInfo(
        name="normal", title="Normal", function=_normal, paper="ComfyUI: even in timesteps between two levels"
    ),
    ScheduleInfo(name="ddim", title="DDIM", function=_ddim, paper="Song et al. 2021, arXiv:2010.02502; ComfyUI"),
    ScheduleInfo(name="beta", title="Beta", function=_beta, paper="Lee et al. 2024, arXiv:2407.12173"),
    ScheduleInfo(
        name="kl_optimal",
        title="KL Optimal",
        function=_kl_optimal,
        paper="Sabour et al. 2024, arXiv:2404.14507, section 3",
    ),
    ScheduleInfo(
        name="align_your_steps",
        title="Align Your Steps",
        function=lambda _, steps: _aligned(_ALIGNED, steps),
        paper="Sabour et al. 2024, arXiv:2404.14507",
    ),
    ScheduleInfo(
        name="align_your_steps_xl",
        title="Align Your Steps XL",
        function=lambda _, steps: _aligned(_ALIGNED_XL, steps),
        paper="Sabour et al. 2024, arXiv:2404.14507",
    ),
)

SCHEDULES: dict[str, ScheduleInfo] = {info.name: info for info in _SCHEDULES}
"""The schedules by name, in the order that people are shown them."""
