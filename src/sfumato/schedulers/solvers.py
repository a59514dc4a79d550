"""The classes of the DPM-Solver family, which start from noise of variance 1: DPM++, DEIS, UniPC, SA-Solver."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.samplers.deis import deis
from sfumato.diffusion.samplers.sa_solver import sa_solver
from sfumato.diffusion.samplers.unipc import unipc
from sfumato.diffusion.spacing import Levels, sigmas_at
from sfumato.errors import OptionError, UnsupportedError
from sfumato.schedulers.free import _FreeSigmas
from sfumato.schedulers.levels import FinalSigma, Rounding, cut, spare_timesteps, whole_steps
from sfumato.schedulers.thresholding import thresholded
from sfumato.schedulers.value import Scheduler, TimestepSpacing

# DPM-Solver's runs of fewer steps end in lower orders.
SHORT = 15


# Algorithms of other classes, whose configs a model may bring: some of diffusers' classes refuse each other's, ours read them as their own.
_OF_OTHERS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "data_prediction", "noise_prediction")


@dataclass(frozen=True, kw_only=True)
class _Solver(_FreeSigmas):
    """What the classes of the family share: levels that leave out the last one of a run of one step more, options of flow models."""

    use_flow_sigmas: bool | None = False
    flow_shift: float | None = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    _karras_rounding: ClassVar[Rounding] = staticmethod(lambda timestep: float(round(timestep)))
    _rounding: ClassVar[Rounding] = staticmethod(cut)
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        "use_flow_sigmas": (False, None),
        "use_dynamic_shifting": (False, None),
        "shift_terminal": (None,),
        "solver_p": (None,),
        "tau_func": (None,),
        "variance_type": (None,),
    }

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, of which most spacings need a timestep more."""
        schedule, steps = self.noise_schedule, whole_steps(steps)
        if self.spacing in get_args(TimestepSpacing):
            timesteps = spare_timesteps(self, steps, self._usable())
            sigmas = sigmas_at(schedule, timesteps)
        else:
            sigmas = self._spaced_freely(schedule.sigma(schedule.steps - 1), schedule.sigma(0), steps)
            timesteps = self._timesteps_at(sigmas)
        return Levels(sigmas=(*sigmas, self._last(sigmas)), timesteps=timesteps)

    def _usable(self) -> int:
        """How many timesteps a run may visit."""
        return self.num_train_timesteps

    def _last(self, sigmas: tuple[float, ...]) -> float:
        """The last level, after those visited."""
        return self.noise_schedule.sigma(0) if self.spacing == self.timestep_spacing else sigmas[-1]


@dataclass(frozen=True, kw_only=True)
class DEISMultistepScheduler(_Solver):
    """DEIS, its polynomial in log rho."""

    solver_order: int = 2
    algorithm_type: str = "deis"
    solver_type: str = "logrho"
    lower_order_final: bool = True
    use_dynamic_shifting: bool | None = False
    time_shift_type: str = "exponential"

    _sampler: ClassVar[str] = "deis"
    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "algorithm_type": dict.fromkeys(_OF_OTHERS, "deis"),
        "solver_type": dict.fromkeys(("midpoint", "heun", "bh1", "bh2"), "logrho"),
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_Solver._fixed,
        "algorithm_type": ("deis",),
        "solver_type": ("logrho",),
        "solver_order": (1, 2, 3),
    }

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        lower = self.lower_order_final and levels.run_steps < SHORT and not levels.is_cut
        return thresholded(self, deis(x, levels.sigmas, order=self.solver_order, lower_order_end=lower))


@dataclass(frozen=True, kw_only=True)
class UniPCMultistepScheduler(_Solver):
    """UniPC. `disable_corrector` numbers steps, from 0, that are left as predicted."""

    solver_order: int = 2
    predict_x0: bool = True
    solver_type: str = "bh2"
    lower_order_final: bool = True
    disable_corrector: Sequence[int] = ()
    solver_p: str | None = None
    final_sigmas_type: FinalSigma = "zero"
    rescale_betas_zero_snr: bool = False
    use_dynamic_shifting: bool | None = False
    time_shift_type: str = "exponential"
    shift_terminal: float | None = None

    _sampler: ClassVar[str] = "unipc"
    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "solver_type": dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_Solver._fixed,
        "solver_type": ("bh2", "bh1"),
        "solver_order": (2, 1, 3, 4),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "disable_corrector", _places("disable_corrector", self.disable_corrector))
        super().__post_init__()
        if self.thresholding and not self.predict_x0:
            raise UnsupportedError(
                "UniPCMultistepScheduler does not honour thresholding with predict_x0=False; leave one out."
            )

    def _last(self, sigmas: tuple[float, ...]) -> float:
        return 0.0 if self.final_sigmas_type == "zero" else super()._last(sigmas)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        sampling = unipc(
            x,
            levels.sigmas,
            order=self.solver_order,
            variant="bh1" if self.solver_type == "bh1" else "bh2",
            predicts="data" if self.predict_x0 else "noise",
            lower_order_end=self.lower_order_final and not levels.is_cut,
            uncorrected=tuple(place - levels.skipped for place in self.disable_corrector),
        )
        return thresholded(self, sampling)


@dataclass(frozen=True, kw_only=True)
class SASolverScheduler(_Solver):
    """SA-Solver, with the diffusion SDE's noise at timesteps from 200 to 800 and none elsewhere."""

    predictor_order: int = 2
    corrector_order: int = 2
    tau_func: str | None = None
    algorithm_type: Literal["data_prediction", "noise_prediction"] = "data_prediction"
    lower_order_final: bool = True
    lambda_min_clipped: float = -math.inf
    variance_type: str | None = None

    _sampler: ClassVar[str] = "sa_solver"
    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "algorithm_type": {
            **dict.fromkeys(("dpmsolver++", "sde-dpmsolver++", "deis"), "data_prediction"),
            **dict.fromkeys(("dpmsolver", "sde-dpmsolver"), "noise_prediction"),
        }
    }
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **_Solver._fixed,
        "predictor_order": (2, 1, 3, 4),
        "corrector_order": (2, 1, 3, 4),
    }

    def _usable(self) -> int:
        return usable_timesteps(self, self.lambda_min_clipped)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes noise at every step. Raises OptionError for an eta."""
        self._no_eta(eta)
        schedule = self.noise_schedule
        sampling = sa_solver(
            x,
            levels.sigmas,
            noise=noise,
            tau=lambda sigma: float(200 <= levels.timestep(sigma, schedule) <= 800),
            predictor_order=self.predictor_order,
            corrector_order=self.corrector_order,
            predicts="data" if self.algorithm_type == "data_prediction" else "noise",
            lower_order_end=self.lower_order_final and not levels.is_cut,
        )
        return thresholded(self, sampling)


def usable_timesteps(scheduler: Scheduler, lambda_min_clipped: float) -> int:
    """How many timesteps, from 0 up, are no noisier than that allows: lambda is -log sigma."""
    return int((-scheduler.noise_schedule.sigmas.log() >= lambda_min_clipped).sum())


def _places(option: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, Sequence) and all(isinstance(value, int) for value in values):
        return tuple(values)
    raise OptionError(f"{option}={values!r} is no list of steps; give their numbers, counted from 0.")
