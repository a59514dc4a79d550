"""The noise a network was trained on: how much of it at each of its timesteps.

Training mixes `sqrt(a_t) * x0 + sqrt(1 - a_t) * noise`, where `a_t`, here `alphas_cumprod[t]`, is the product of `1 - beta` up to
timestep t. Samplers live in sigma space, `x0 + sigma * noise`: the same thing divided by `sqrt(a_t)`, so that
`sigma_t = sqrt((1 - a_t) / a_t)` (Karras et al. 2022, arXiv:2206.00364, Table 1 and appendix C).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.errors import ScheduleError, UnknownNameError

MOST_STEPS = 100_000
"""The longest training noise table: models have 1000 timesteps, and a hostile config must not take the machine's memory."""

ScheduleKind: TypeAlias = Literal["scaled_linear", "linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"]
"""Shape of the betas over the timesteps, by the names that model configs use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSchedule:
    """The training noise table of a network; the defaults are Stable Diffusion's.

    `trained_betas`, where given, is the table of betas itself and replaces start, end and kind. `terminal_signal`, where given,
    is the share of the signal's variance that the last timestep keeps, in place of the table's: the others are rescaled as for
    none (Lin et al. 2023, arXiv:2305.08891, Algorithm 1), and none itself, an infinite sigma, is stood for by a small one.
    `in_float64` makes the table as CompVis's code does, with one rounding at the end.
    Raises ScheduleError for betas outside (0, 1), fewer than two timesteps or more than 100,000; UnknownNameError for an unknown kind.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    kind: ScheduleKind = "scaled_linear"
    steps: int = 1000
    trained_betas: tuple[float, ...] | None = None
    terminal_signal: float | None = None
    in_float64: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            raise UnknownNameError("noise schedule", str(self.kind), get_args(ScheduleKind))
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ScheduleError(
                f"betas from {self.beta_start} to {self.beta_end} make no noise schedule; give 0 < beta_start <= beta_end < 1."
            )
        if self.trained_betas is not None and len(self.trained_betas) != self.steps:
            raise ScheduleError(
                f"trained_betas has {len(self.trained_betas)} values for {self.steps} timesteps; give one for each."
            )
        if not 2 <= self.steps <= MOST_STEPS:
            raise ScheduleError(
                f"a noise schedule of {self.steps} timesteps can't be used; give 2 to {MOST_STEPS:,} (models have 1000)."
            )
        if self.trained_betas is not None and not all(0 < beta < 1 for beta in self.trained_betas):
            raise ScheduleError(
                "trained_betas holds values outside (0, 1); each must be the variance that its timestep adds."
            )
        if self.terminal_signal is not None and not 0 < self.terminal_signal < 1:
            raise ScheduleError(
                f"a last timestep can't keep {self.terminal_signal} of the signal; give a share above 0."
            )

    @property
    def alphas_cumprod(self) -> Tensor:
        """Share of the signal's variance left at each timestep: float32, `steps` long, falling from almost 1 to almost 0."""
        return torch.tensor(_tables(self).alphas_cumprod, dtype=torch.float32)

    @property
    def sigmas(self) -> Tensor:
        """Noise std in latent units at each timestep: float64, `steps` long, rising."""
        return torch.tensor(_tables(self).sigmas, dtype=torch.float64)

    def noisy(self, x: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """x with so much of unit noise in it as training has at a whole timestep. Source: Ho et al. 2020, arXiv:2006.11239, Eq. 4."""
        kept = self.alphas_cumprod[timestep]
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def sigma(self, timestep: float) -> float:
        """Noise std at a timestep, linear in sigma between whole ones. Raises ScheduleError outside 0 … steps - 1."""
        if not 0 <= timestep <= self.steps - 1:  # false for NaN too
            raise ScheduleError(f"timestep {timestep} is outside the noise schedule; expected 0 to {self.steps - 1}.")
        return float(np.interp(timestep, np.arange(self.steps), _tables(self).sigmas))

    def timestep(self, sigma: float) -> float:
        """Timestep at a noise std, linear in log sigma between whole ones; the ends of the table stand for what is beyond them.

        Raises ScheduleError for a sigma that is negative or not finite.
        """
        if not (math.isfinite(sigma) and sigma >= 0):
            raise ScheduleError(f"sigma {sigma} has no timestep; expected a finite noise std of at least 0.")
        return float(np.interp(math.log(max(sigma, 1e-10)), _tables(self).log_sigmas, np.arange(self.steps)))


class _Tables(NamedTuple):
    alphas_cumprod: npt.NDArray[np.float64]
    sigmas: npt.NDArray[np.float64]
    log_sigmas: npt.NDArray[np.float64]


@lru_cache(maxsize=16)
def _tables(schedule: NoiseSchedule) -> _Tables:
    # In float32, operation by operation, because the code that trained the checkpoints made its table so. Near t = 0, where 1 - a
    # is 0.00085, that rounding moves sigma by up to 1e-4, and networks must be asked at the levels they were trained at; where a
    # timestep is cut to a whole number, the rounding of the logarithm decides which. Arithmetic on the table is in float64.
    betas = _betas(schedule)
    if schedule.terminal_signal is not None:
        betas = without_signal_at_the_end(betas)
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0).to(torch.float32)
    if schedule.terminal_signal is not None:
        alphas_cumprod[-1] = schedule.terminal_signal
    sigmas = ((1.0 - alphas_cumprod) / alphas_cumprod).sqrt()
    if not torch.isfinite(sigmas).all():
        raise ScheduleError(
            "the noise schedule leaves no signal at its last timestep, so its sigma is infinite; use smaller betas, or "
            "rescale_betas_zero_snr."
        )
    table = (alphas_cumprod, sigmas, torch.from_numpy(np.log(sigmas.numpy())))  # pyright: ignore[reportUnknownMemberType]
    return _Tables(*(column.double().numpy() for column in table))


def _betas(schedule: NoiseSchedule) -> Tensor:
    start, end, steps = schedule.beta_start, schedule.beta_end, schedule.steps
    dtype = torch.float64 if schedule.in_float64 else torch.float32
    if schedule.trained_betas is not None:
        return torch.tensor(schedule.trained_betas, dtype=dtype)
    match schedule.kind:
        case "linear":  # Ho et al. 2020, arXiv:2006.11239, section 4
            return torch.linspace(start, end, steps, dtype=dtype)
        case "scaled_linear":  # Rombach et al. 2022, arXiv:2112.10752: linear in the root of beta
            return torch.linspace(start**0.5, end**0.5, steps, dtype=dtype) ** 2
        case "sigmoid":  # Xu et al. 2022, arXiv:2203.02923 (GeoDiff)
            return torch.sigmoid(torch.linspace(-6, 6, steps, dtype=dtype)) * (end - start) + start
        case "squaredcos_cap_v2":
            return _betas_of(_cosine, steps).to(dtype)
        case "laplace":
            return _betas_of(_laplace, steps).to(dtype)
        case "exp":
            return _betas_of(lambda u: math.exp(-12.0 * u), steps).to(dtype)


def without_signal_at_the_end(betas: Tensor) -> Tensor:
    """Betas whose last timestep is nothing but noise, its beta 1: the root of the signal's share falls in a straight line with theirs.

    Source: Lin et al. 2023, arXiv:2305.08891, Algorithm 1.
    """
    roots = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    shares = ((roots - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([shares[:1], shares[1:] / shares[:-1]])


def _betas_of(alpha_bar: Callable[[float], float], steps: int) -> Tensor:
    """Betas whose product follows alpha_bar over [0, 1], capped at 0.999. Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.2."""
    betas = [min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)]
    return torch.tensor(betas, dtype=torch.float32)


def _cosine(u: float) -> float:
    return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2  # Nichol & Dhariwal 2021, Eq. 17


def _laplace(u: float) -> float:
    # Hang et al. 2024, arXiv:2407.03297, Table 1 (mu = 0, b = 0.5); 1e-6 keeps the logarithm finite at both ends.
    log_snr = -0.5 * math.copysign(1, 0.5 - u) * math.log(1 - 2 * abs(0.5 - u) + 1e-6)
    return math.sqrt(math.exp(log_snr) / (1 + math.exp(log_snr)))
