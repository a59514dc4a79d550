"""EDM's classes: networks that are shown data of any spread at unit variance, and are told a quarter of log sigma in place of a timestep.

    denoised = c_skip x + c_out F(c_in x, c_noise)            Karras et al. 2022, arXiv:2206.00364, Eq. 7 and Table 1 (EDM)

x and sigma are counted in units of `sigma_data`, the data's spread. There it is 1, and so c_in is that of a variance-preserving network, and F is
-v: samplers, which scale with x, and the engine need not know of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.prediction import Answer
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.spacing import Levels, exponential, karras
from sfumato.errors import OptionError, ScheduleError, UnsupportedError
from sfumato.schedulers.dpm_solver import multistep
from sfumato.schedulers.levels import FinalSigma, whole_steps
from sfumato.schedulers.thresholding import thresholded
from sfumato.schedulers.value import Scheduler

SigmaSchedule: TypeAlias = Literal["karras", "exponential"]


@dataclass(frozen=True, kw_only=True)
class EDMScheduler(Scheduler, named=False):
    """What EDM's classes share: levels between two sigmas, and Karras' preconditioning.

    sigma_min, sigma_max   the last level above 0, and the first
    sigma_data             the spread of the data; sigmas are given in the data's own units
    sigma_schedule, rho    how the levels are spaced, and karras' exponent
    prediction_type        whether the network answers F ("epsilon") or -F ("v_prediction")

    They are given by name. Of a noise schedule's options only the number of timesteps counts, as the most steps of a run.
    Raises OptionError unless 0 < sigma_min < sigma_max and sigma_data and rho are above 0.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    sigma_schedule: SigmaSchedule = "karras"
    rho: float = 7.0
    final_sigmas_type: FinalSigma = "zero"

    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        "prediction_type": ("epsilon", "v_prediction"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max:
            raise OptionError(
                f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max} have no levels between them; give 0 < sigma_min < sigma_max."
            )
        for name in ("sigma_data", "rho"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} {getattr(self, name)} is out of range; give a number above 0.")

    @property
    def spacing(self) -> str:  # noqa: D102
        return self.sigma_schedule

    @property
    def answer(self) -> Answer:  # noqa: D102
        return "minus_v" if self.prediction_type == "epsilon" else "v_prediction"

    @property
    def unit(self) -> float:  # noqa: D102
        return self.sigma_data

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range."""
        steps = whole_steps(steps)
        if not 1 <= steps <= self.num_train_timesteps:
            raise ScheduleError(
                f"{steps} steps can't be taken; ask for 1 to {self.num_train_timesteps} (usual: 20 to 50)."
            )
        if self.sigma_schedule == "karras":
            sigmas = karras(self.sigma_max, self.sigma_min, steps, rho=self.rho)
        else:
            sigmas = exponential(self.sigma_max, self.sigma_min, steps)
        last = 0.0 if self.final_sigmas_type == "zero" else self.sigma_min
        return Levels(
            sigmas=tuple(sigma / self.unit for sigma in (*sigmas, last)),
            timesteps=tuple(math.log(sigma) / 4 for sigma in sigmas),  # c_noise
        )

    def initial_scale(self, levels: Levels) -> float:  # noqa: D102
        # Where a run begins in the middle too, as diffusers' class has it.
        return math.sqrt(1 + self.sigma_max**2) / self.unit

    def latents_scale(self, sigma: float) -> float:  # noqa: D102
        return self.unit


@dataclass(frozen=True, kw_only=True)
class EDMEulerScheduler(EDMScheduler):
    """Euler's method for networks with EDM's preconditioning."""

    _sampler: ClassVar[str] = "euler"

    def start(
        self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0, *, path: NoisePathFrom | None = None
    ) -> Sampling:
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        return euler(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class EDMDPMSolverMultistepScheduler(EDMScheduler):
    """DPM-Solver++ of first to third order for networks with EDM's preconditioning; `sde-dpmsolver++` of first or second, with fresh noise."""

    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "algorithm_type": {"deis": "dpmsolver++"},
        "solver_type": {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **EDMScheduler._fixed,
        "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
        "solver_type": ("midpoint", "heun"),
        "solver_order": (2, 1, 3),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm_type == "sde-dpmsolver++" and self.solver_order == 3:
            raise UnsupportedError(
                "EDMDPMSolverMultistepScheduler does not honour solver_order=3 with algorithm_type='sde-dpmsolver++', where diffusers has no "
                "formula; set solver_order=2."
            )

    @property
    def sampler(self) -> str:  # noqa: D102
        return "dpmpp_2m" if self.algorithm_type == "dpmsolver++" else "dpmpp_2m_sde"

    def start(
        self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0, *, path: NoisePathFrom | None = None
    ) -> Sampling:
        """The sampler at work, which takes noise where it solves the SDE. Raises OptionError for an eta."""
        self._no_eta(eta)
        return thresholded(self, multistep(self, x, levels, noise))
