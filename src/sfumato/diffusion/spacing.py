"""Which levels a run visits.

`leading`, `trailing` and `linspace` choose training timesteps (names: Lin et al. 2023, arXiv:2305.08891, Table 2); `karras`,
`exponential` and `beta` choose sigmas between two ends. All return `steps` descending values; `Levels` adds the last level and says which
timestep each belongs to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from torch import Tensor

from sfumato.diffusion.beta_quantile import beta_quantile
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.errors import ScheduleError


@dataclass(frozen=True, kw_only=True, slots=True)
class Levels:
    """The levels of one run: `steps + 1` sigmas, descending to the last level, and the network's timestep at all but that one.

    `targets`, where given, are the levels that the steps aim at, in place of the next ones visited. Some noise schedules' own
    samplers aim at `timestep - train_steps // steps` even where the next timestep visited is another, and read what they get as
    if it were at that one (see `relabel`); pictures made with them depend on it. It matters only where steps don't divide evenly.

    Levels may be a `part` of a longer run's: then `skipped` of its `run` steps come before, and `is_cut` where others come after.

    Raises ScheduleError unless the sigmas descend from a finite one to one of at least 0; the last two may be equal.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]
    targets: tuple[float, ...] | None = None
    skipped: int = 0
    run: int | None = None
    is_cut: bool = False

    def __post_init__(self) -> None:
        if len(self.timesteps) < 1 or len(self.sigmas) != len(self.timesteps) + 1:
            raise ScheduleError(
                f"{len(self.sigmas)} sigmas for {len(self.timesteps)} timesteps; a run of n >= 1 steps has n + 1 sigmas and n timesteps."
            )
        if self.targets is not None and len(self.targets) != len(self.timesteps):
            raise ScheduleError(f"{len(self.targets)} targets for {len(self.timesteps)} steps; give one for each step.")
        if not all(math.isfinite(value) for value in (*self.sigmas, *self.timesteps, *(self.targets or ()))):
            raise ScheduleError("the levels hold NaN or infinity; every sigma and timestep must be finite.")
        visited, last = self.sigmas[:-1], self.sigmas[-1]
        if any(here <= below for here, below in pairwise(visited)) or not visited[-1] >= last >= 0:
            raise ScheduleError(
                f"the {self.steps} levels don't descend; ask for fewer steps, or give sigmas that fall to a last one of at least 0."
            )
        if visited[-1] == 0:
            raise ScheduleError("only the last level may be 0: nothing can be denoised where there is no noise.")

    @property
    def steps(self) -> int:
        """How many steps the run takes."""
        return len(self.timesteps)

    @property
    def run_steps(self) -> int:
        """How many steps the whole run takes that these are levels of: some samplers' arithmetic depends on it."""
        return self.steps if self.run is None else self.run

    def part(self, first: int, last: int | None = None) -> "Levels":
        """The levels of the steps from `first`, counted from 0, up to `last`, which is not among them; None: to the end.

        Raises ScheduleError for a part without a step.
        """
        last = self.steps if last is None else last
        if not 0 <= first < last <= self.steps:
            raise ScheduleError(
                f"steps {first} to {last} of {self.steps} are none; a part of a run has at least one step."
            )
        return replace(
            self,
            sigmas=self.sigmas[first : last + 1],
            timesteps=self.timesteps[first:last],
            targets=None if self.targets is None else self.targets[first:last],
            skipped=self.skipped + first,
            run=self.run_steps,
            is_cut=self.is_cut or last < self.steps,
        )

    def timestep(self, sigma: float, schedule: NoiseSchedule) -> float:
        """What the network is told at `sigma`: the run's own timestep at its levels, the noise schedule's between them."""
        try:
            return self.timesteps[self.sigmas.index(sigma, 0, self.steps)]
        except ValueError:
            return schedule.timestep(sigma)


def relabel(x: Tensor, sigma: float, as_sigma: float) -> Tensor:
    """The x at `as_sigma` that is the same variance-preserving latents as `x` at `sigma`: both are those latents times `sqrt(1 + sigma**2)`."""
    return x if sigma == as_sigma else x * math.sqrt((1.0 + as_sigma**2) / (1.0 + sigma**2))


def leading(train_steps: int, steps: int, *, offset: int = 0) -> tuple[float, ...]:
    """Whole timesteps `train_steps // steps` apart, counted from `offset` up: the noisiest ones are left out.

    Raises ScheduleError for steps outside 1 … train_steps, or an offset that leaves the noise schedule.
    """
    _check_steps(train_steps, steps)
    stride = train_steps // steps
    if offset < 0 or (steps - 1) * stride + offset > train_steps - 1:
        raise ScheduleError(
            f"{steps} leading steps with steps_offset {offset} reach timestep {(steps - 1) * stride + offset}, outside 0 to {train_steps - 1}; "
            "ask for fewer steps or a smaller offset."
        )
    return tuple(float(i * stride + offset) for i in reversed(range(steps)))


def trailing(train_steps: int, steps: int) -> tuple[float, ...]:
    """Whole timesteps `train_steps / steps` apart, counted from the last one down: the least noisy ones are left out.

    Raises ScheduleError for steps outside 1 … train_steps.
    """
    _check_steps(train_steps, steps)
    # np.arange, cut: where the stride is no whole number its rounding decides ties, and may add one value too many.
    ends = np.arange(train_steps, 0, -train_steps / steps)[:steps]
    return tuple(float(end) - 1 for end in np.round(ends))


def linspace(train_steps: int, steps: int, *, whole: bool = True) -> tuple[float, ...]:
    """Timesteps evenly spaced from the last to the first, both visited; rounded where `whole`. A single step visits the first.

    Raises ScheduleError for steps outside 1 … train_steps.
    """
    _check_steps(train_steps, steps)
    values = np.linspace(0, train_steps - 1, steps)[::-1]
    return tuple(float(value) for value in (np.round(values) if whole else values))


def karras(sigma_max: float, sigma_min: float, steps: int, *, rho: float = 7.0) -> tuple[float, ...]:
    """Sigmas evenly spaced in sigma**(1/rho), dense near sigma_min; both ends are visited.

    Raises ScheduleError unless 0 < sigma_min <= sigma_max and steps >= 1.
    Source: Karras et al. 2022, arXiv:2206.00364, Eq. 5.
    """
    _check_ends(sigma_max, sigma_min, steps)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _between(sigma_max, sigma_min, [float((top + u * (bottom - top)) ** rho) for u in np.linspace(0, 1, steps)])


def exponential(sigma_max: float, sigma_min: float, steps: int) -> tuple[float, ...]:
    """Sigmas evenly spaced in log sigma; both ends are visited.

    Raises ScheduleError unless 0 < sigma_min <= sigma_max and steps >= 1.
    Source: Lu et al. 2022, arXiv:2206.00927, section 3.4 (uniform in lambda = -log sigma).
    """
    _check_ends(sigma_max, sigma_min, steps)
    top, bottom = math.log(sigma_max), math.log(sigma_min)
    return _between(sigma_max, sigma_min, [math.exp(top + u * (bottom - top)) for u in np.linspace(0, 1, steps)])


def beta(sigma_max: float, sigma_min: float, steps: int) -> tuple[float, ...]:
    """Sigmas at even shares of a beta distribution between both ends, which are visited: dense near either.

    Raises ScheduleError unless 0 < sigma_min <= sigma_max and steps >= 1.
    Source: Lee et al. 2024, arXiv:2407.12173, with alpha = beta = 0.6.
    """
    _check_ends(sigma_max, sigma_min, steps)
    shares = [beta_quantile(float(share), 0.6, 0.6) for share in 1 - np.linspace(0, 1, steps)]
    return _between(sigma_max, sigma_min, [sigma_min + share * (sigma_max - sigma_min) for share in shares])


def sigmas_at(schedule: NoiseSchedule, timesteps: Sequence[float]) -> tuple[float, ...]:
    """The noise schedule's sigma at each timestep."""
    return tuple(schedule.sigma(timestep) for timestep in timesteps)


def _between(sigma_max: float, sigma_min: float, sigmas: list[float]) -> tuple[float, ...]:
    """The sigmas with both ends exact, which powers and logarithms miss by a rounding: levels are looked up by equality."""
    return (sigma_max, *sigmas[1:-1], sigma_min)[: len(sigmas)]


def _check_steps(train_steps: int, steps: int) -> None:
    if not 1 <= steps <= train_steps:
        raise ScheduleError(
            f"{steps} steps can't be taken on a noise schedule of {train_steps} timesteps; ask for 1 to {train_steps} (usual: 20 to 50)."
        )


def _check_ends(sigma_max: float, sigma_min: float, steps: int) -> None:
    if steps < 1:
        raise ScheduleError(f"{steps} steps can't be taken; ask for at least 1 (usual: 20 to 50).")
    if not (0 < sigma_min <= sigma_max and math.isfinite(sigma_max)):
        raise ScheduleError(
            f"no levels lie between sigma {sigma_max} and {sigma_min}; give 0 < sigma_min <= sigma_max."
        )
