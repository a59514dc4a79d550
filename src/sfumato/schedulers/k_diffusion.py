"""Any sampler on any schedule, as k-diffusion and AUTOMATIC1111's web UI have them: no class of diffusers."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.samplers import AUTOMATIC, SAMPLERS, SamplerInfo, find_sampler, find_spacing
from sfumato.diffusion.samplers.churn import Churn
from sfumato.diffusion.schedules import Ends, levels_of
from sfumato.diffusion.spacing import Levels, exponential
from sfumato.errors import OptionError, ScheduleError
from sfumato.schedulers.levels import whole_steps
from sfumato.schedulers.starting import path_or_noise
from sfumato.schedulers.value import Scheduler

# The samplers that go between two ends on levels of their own.
_ENDS_ALONE = ("dpm_fast", "dpm_adaptive")


@dataclass(frozen=True, kw_only=True)
class KDiffusionScheduler(Scheduler):
    """A sampler and a schedule, each by any of its names, with k-diffusion's options; what is None is the sampler's own.

    sampler_name, schedule        by any of their names; "automatic" is the schedule that the web UI has for the sampler
    rho, sigma_min, sigma_max     of the schedule; the ends are those of the noise schedule where they are None
    eta                           how much of DDPM's noise is renewed at each step
    s_churn, s_tmin, s_tmax       noise put back before steps, at which levels (s_tmax None: all)
    s_noise                       a factor on the std of all noise on the way

    The noise schedule is computed in float64, as CompVis's code does, and x starts as sigma times noise. DPM2, DPM2 a and DPM++ 3M SDE leave
    out the last level but one, DPM fast and DPM adaptive visit levels of their own. Raises UnknownNameError, OptionError for an option that the
    sampler hasn't or a value out of range, ScheduleError.
    """

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)
    beta_schedule: str = field(default="scaled_linear", kw_only=False)
    sampler_name: str = "euler"
    schedule: str = AUTOMATIC
    rho: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0
    rescale_betas_zero_snr: bool = False

    _sampler: ClassVar[str] = ""
    # The web UI's, which is not diffusers'.
    _terminal_signal: ClassVar[float] = 4.8973451890853435e-08
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler_name", find_sampler(self.sampler_name).name)
        object.__setattr__(self, "schedule", find_spacing(self.schedule))
        super().__post_init__()
        if self.rho is not None and not self.rho > 0:
            raise OptionError(f"rho {self.rho} makes no schedule; give a number above 0 (usual: 7 for karras).")
        for name, least in (("eta", 0.0), ("s_churn", 0.0), ("s_tmin", 0.0), ("s_tmax", 0.0), ("s_noise", 0.0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is out of range; give a number of at least 0.")
        if self.eta is not None and self.eta > 1:
            raise OptionError(f"eta {self.eta} is out of range; give 0 (no noise is renewed) to 1 (as DDPM).")
        for name, default in (("eta", None), ("s_churn", 0.0), ("s_noise", 1.0)):
            if getattr(self, name) != default:
                self._takes(name)
        _ = self._ends

    @property
    def sampler(self) -> str:  # noqa: D102
        return self.sampler_name

    @property
    def info(self) -> SamplerInfo:
        """What is known of the sampler."""
        return SAMPLERS[self.sampler_name]

    @property
    def spacing(self) -> str:  # noqa: D102
        own = self.schedule == AUTOMATIC or self.sampler in _ENDS_ALONE
        return self.info.schedule if own else self.schedule

    @property
    def notes(self) -> tuple[str, ...]:  # noqa: D102
        notes: list[str] = []
        if self.sampler == "dpm_adaptive":
            notes.append(
                "DPM adaptive takes as many steps as it finds it needs; the number of steps asked for has no effect on them"
            )
        if self.sampler in _ENDS_ALONE and self.schedule not in (AUTOMATIC, self.spacing):
            notes.append(f"{self.info.title} visits levels of its own; the schedule {self.schedule} has no effect")
        return tuple(notes)

    @property
    def noise_schedule(self) -> NoiseSchedule:  # noqa: D102
        return replace(super().noise_schedule, in_float64=True)

    def initial_scale(self, levels: Levels) -> float:  # noqa: D102
        return levels.sigmas[0]

    def latents_scale(self, sigma: float) -> float:  # noqa: D102
        return 1.0

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range."""
        steps, ends, schedule = whole_steps(steps), self._ends, self.noise_schedule
        if self.sampler in _ENDS_ALONE:
            sigmas = exponential(ends.sigma_max, ends.sigma_min, steps + 1)
        elif self.info.drops_penultimate:
            sigmas = levels_of(self.spacing, ends, steps + 1)
            sigmas = (*sigmas[:-2], sigmas[-1])
        else:
            sigmas = levels_of(self.spacing, ends, steps)
        return Levels(sigmas=sigmas, timesteps=tuple(schedule.timestep(sigma) for sigma in sigmas[:-1]))

    def start(
        self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0, *, path: NoisePathFrom | None = None
    ) -> Sampling:
        """The sampler at work; an eta above 0 goes before the option. Raises OptionError for an eta that the sampler hasn't."""
        eta_said = self.eta if eta == 0 else eta
        if eta != 0:
            self._takes("eta")
            if not 0 <= eta <= 1:
                raise OptionError(f"eta {eta} is out of range; give 0 to 1.")
        known = inspect.signature(self.info.function).parameters
        options: dict[str, Any] = {"noise": noise, **self._special(levels, eta_said)}
        if self.info.noise == "path":
            options["path"] = path_or_noise(path, levels.sigmas, noise)
        if eta_said is not None:
            options["eta"] = eta_said
        options["s_noise"] = self.s_noise
        if levels.is_cut:  # its last step is not the run's
            options["lower_order_end"] = False
        options["churn"] = Churn(
            s_churn=self.s_churn,
            s_tmin=self.s_tmin,
            s_tmax=math.inf if self.s_tmax is None else self.s_tmax,
            s_noise=self.s_noise,
        )
        return self.info.function(x, levels.sigmas, **{name: value for name, value in options.items() if name in known})

    def _special(self, levels: Levels, eta: float | None) -> dict[str, Any]:
        """What some samplers are told by those who have them: the web UI, or their own papers' code."""
        schedule = self.noise_schedule
        match self.sampler:
            case "unipc":
                return {"order": 3, "variant": "bh1"}
            case "plms" if self.prediction_type == "v_prediction":
                return {"mixes": "v_prediction"}
            case "sa_solver":
                share = 1.0 if eta is None else eta
                low, high = 0.2 * schedule.steps, 0.8 * schedule.steps
                return {"tau": lambda sigma: share * (low <= schedule.timestep(sigma) <= high)}
            case "tcd":
                left = 1 - (0.3 if eta is None else eta)
                lower = [
                    schedule.sigma(left * schedule.timestep(sigma)) if sigma > 0 else 0.0 for sigma in levels.sigmas[1:]
                ]
                return {"through": [min(low, sigma) for low, sigma in zip(lower, levels.sigmas[1:], strict=True)]}
            case _:
                return {}

    def _takes(self, option: str) -> None:
        """Raise OptionError unless the sampler acts on an option."""
        known = inspect.signature(self.info.function).parameters
        acts = {
            "eta": "eta" in known or self.sampler in ("sa_solver", "tcd"),
            "s_churn": "churn" in known,
            "s_noise": "s_noise" in known or "churn" in known,
        }
        if not acts[option]:
            raise OptionError(f"{self.info.title} has no {option}, which would do nothing; leave it out.")

    @property
    def _ends(self) -> Ends:
        schedule = self.noise_schedule
        low, high = schedule.sigma(0), schedule.sigma(schedule.steps - 1)
        for name in ("sigma_min", "sigma_max"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= high:
                raise ScheduleError(
                    f"{name} {value} is outside the noise schedule; give a number above 0, up to {high:.6g}."
                )
        return Ends(
            schedule=schedule,
            sigma_min=low if self.sigma_min is None else self.sigma_min,
            sigma_max=high if self.sigma_max is None else self.sigma_max,
            rho=self.rho,
        )
