"""DPM-Solver and DPM-Solver++, multistep and single-step, of the ODE and of the SDE: two classes with the same options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.samplers.dpm_multistep import dpm_multistep
from sfumato.diffusion.samplers.dpmpp_2m import dpmpp_2m
from sfumato.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde
from sfumato.diffusion.samplers.dpmpp_singlestep import dpmpp_singlestep, singlestep_orders
from sfumato.diffusion.spacing import Levels
from sfumato.errors import UnsupportedError
from sfumato.schedulers.free import FREE_SPACINGS
from sfumato.schedulers.levels import FinalSigma, final_sigma
from sfumato.schedulers.solvers import SHORT, _Solver, usable_timesteps
from sfumato.schedulers.thresholding import thresholded
from sfumato.schedulers.value import Scheduler, TimestepSpacing


@dataclass(frozen=True, kw_only=True)
class _DPMSolver(_Solver):
    """What the two have in common."""

    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    final_sigmas_type: FinalSigma = "zero"
    lambda_min_clipped: float = -math.inf
    variance_type: str | None = None
    use_dynamic_shifting: bool | None = False
    time_shift_type: str = "exponential"

    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "algorithm_type": dict.fromkeys(("deis", "data_prediction", "noise_prediction"), "dpmsolver++"),
        "solver_type": {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_Solver._fixed,
        "solver_type": ("midpoint", "heun"),
        "solver_order": (2, 1, 3),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        follows_noise = self.algorithm_type in ("dpmsolver", "sde-dpmsolver")
        if follows_noise and self.final_sigmas_type == "zero":
            raise UnsupportedError(
                f"{type(self).__name__} with algorithm_type={self.algorithm_type!r} can't go to 0; set final_sigmas_type='sigma_min'."
            )

    def _usable(self) -> int:
        return usable_timesteps(self, self.lambda_min_clipped)

    def _last(self, sigmas: tuple[float, ...]) -> float:
        return final_sigma(self, self.final_sigmas_type)

    @property
    def _solver(self) -> Literal["midpoint", "heun"]:
        return "heun" if self.solver_type == "heun" else "midpoint"


@dataclass(frozen=True, kw_only=True)
class DPMSolverMultistepScheduler(_DPMSolver):
    """DPM-Solver++ or DPM-Solver of first to third order, multistep; `sde-…` with fresh noise at each step, of first or second."""

    euler_at_final: bool = False
    use_lu_lambdas: bool | None = False
    rescale_betas_zero_snr: bool = False

    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_DPMSolver._fixed,
        "algorithm_type": ("dpmsolver++", "dpmsolver", "sde-dpmsolver", "sde-dpmsolver++"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm_type.startswith("sde-") and self.solver_order == 3:
            raise UnsupportedError(
                f"DPMSolverMultistepScheduler does not honour solver_order=3 with algorithm_type={self.algorithm_type!r}, where diffusers' "
                'formula has a wrong sign or is missing; set solver_order=2, or use the sampler "DPM++ 3M SDE".'
            )

    @property
    def spacing(self) -> str:  # noqa: D102
        # Even in lambda, which is -log sigma.
        return "exponential" if self.use_lu_lambdas and not self.use_karras_sigmas else super().spacing

    @property
    def sampler(self) -> str:  # noqa: D102
        return {"dpmsolver++": "dpmpp_2m", "sde-dpmsolver++": "dpmpp_2m_sde"}.get(self.algorithm_type, "dpm_2m")

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, of which most spacings need a timestep more.

        Raises UnsupportedError for lambda_min_clipped with trailing spacing.
        """
        if self.spacing == "trailing" and self._usable() < self.num_train_timesteps:
            raise UnsupportedError("lambda_min_clipped is not honoured with trailing spacing; use leading or linspace.")
        return super().levels(steps)

    def _timesteps_at(self, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        # Whole timesteps, as diffusers has them: karras and lu round first, unless the schedule is the cosine one.
        rounds = (self.use_karras_sigmas or self.use_lu_lambdas) and self.beta_schedule != "squaredcos_cap_v2"
        between = (self.noise_schedule.timestep(sigma) for sigma in sigmas)
        return tuple(float(round(timestep) if rounds else math.floor(timestep)) for timestep in between)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes noise where it solves the SDE. Raises OptionError for an eta."""
        self._no_eta(eta)
        return thresholded(self, multistep(self, x, levels, noise))


class Multistep(Protocol):
    """The options of a class that solves multistep, as diffusers names them."""

    @property
    def solver_order(self) -> int: ...  # noqa: D102
    @property
    def algorithm_type(self) -> str: ...  # noqa: D102
    @property
    def solver_type(self) -> str: ...  # noqa: D102
    @property
    def lower_order_final(self) -> bool: ...  # noqa: D102
    @property
    def euler_at_final(self) -> bool: ...  # noqa: D102


def multistep(options: Multistep, x: Tensor, levels: Levels, noise: Noise) -> Sampling:
    """The sampler that the options say, at work from `x` at the first level; it takes noise where it solves the SDE."""
    short = options.lower_order_final and levels.run_steps < SHORT and not levels.is_cut
    shared: dict[str, Any] = {
        "solver": "heun" if options.solver_type == "heun" else "midpoint",
        "first_order_final": short or (options.euler_at_final and not levels.is_cut),
    }
    sde = {"path": lambda *_: noise()} if options.algorithm_type.startswith("sde-") else {}
    if options.algorithm_type == "sde-dpmsolver++":
        order = 1 if options.solver_order == 1 else 2
        sampling = dpmpp_2m_sde(x, levels.sigmas, path=sde["path"], order=order, **shared)
        return sampling if levels.sigmas[-1] else _drawing_once_more(sampling, noise)
    sampler = dpmpp_2m if options.algorithm_type == "dpmsolver++" else dpm_multistep
    return sampler(x, levels.sigmas, **sde, order=options.solver_order, lower_order_end=short, **shared)


@dataclass(frozen=True, kw_only=True)
class DPMSolverSinglestepScheduler(_DPMSolver):
    """DPM-Solver++ or DPM-Solver of first to third order, single-step, its steps laid over the levels.

    Its timesteps are those of linspace, whatever the config says that it is made from: diffusers' class has no `timestep_spacing`, which
    is carried for other classes only.
    """

    lower_order_final: bool = False
    timestep_spacing: TimestepSpacing = "linspace"
    steps_offset: int = 0

    _sampler: ClassVar[str] = "dpmpp_2s"
    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **_DPMSolver._read_as,
        "algorithm_type": {**_DPMSolver._read_as["algorithm_type"], "sde-dpmsolver": "sde-dpmsolver++"},
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_DPMSolver._fixed,
        "algorithm_type": ("dpmsolver++", "dpmsolver", "sde-dpmsolver++"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm_type.startswith("sde-") and self.solver_order == 3 and self._solver == "heun":
            raise UnsupportedError(
                "DPMSolverSinglestepScheduler does not honour solver_order=3 with solver_type='heun' for the SDE, where diffusers' formula "
                "has a wrong sign; set solver_type='midpoint' or solver_order=2."
            )

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes noise where it solves the SDE. Raises OptionError for an eta."""
        self._no_eta(eta)
        sde = {"path": lambda *_: noise()} if self.algorithm_type.startswith("sde-") else {}
        sampling = dpmpp_singlestep(
            x,
            levels.sigmas,
            **sde,
            orders=self._orders(levels),
            solver=self._solver,
            predicts="noise" if self.algorithm_type == "dpmsolver" else "data",
        )
        sampling = thresholded(self, sampling)
        return _drawing_once_more(sampling, noise) if sde and levels.sigmas[-1] == 0 else sampling

    @property
    def spacing(self) -> str:  # noqa: D102
        return found if (found := super().spacing) in FREE_SPACINGS else "linspace"

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | Scheduler, **overrides: Any) -> Self:
        """As any scheduler's. Raises UnsupportedError for a `timestep_spacing` that is asked for, which would do nothing."""
        if overrides.get("timestep_spacing", "linspace") != "linspace":
            raise UnsupportedError(
                "DPMSolverSinglestepScheduler's timesteps are those of linspace; leave timestep_spacing out, or use "
                'KDiffusionScheduler with sampler_name="DPM++ 2S".'
            )
        return super().from_config(config, **overrides)

    def _orders(self, levels: Levels) -> list[int]:
        # Laid over the whole run, of which these may be a part: where its first level is not of order 1, the sampler begins anew.
        steps, to_zero = levels.run_steps, self.final_sigmas_type == "zero"
        uneven = steps % self.solver_order != 0
        orders = singlestep_orders(steps, self.solver_order, first_order_final=to_zero)
        if (self.lower_order_final or uneven or to_zero) and self.solver_order > 1:
            orders[-1] = 1 if steps % self.solver_order in (0, 1) or to_zero else orders[-1]
        return orders[levels.skipped : levels.skipped + levels.steps]


def _drawing_once_more(sampling: Sampling, noise: Noise) -> Sampling:
    """Draws at the end too, where a level of 0 makes nothing of it: the generator then stands where diffusers leaves it."""
    x = yield from sampling
    noise()
    return x
