"""The eight scheduler classes: what each diffusers class of that name does, said in sampler, levels and scales.

Two families differ in where a run begins and in what latents are at its end. The variance-preserving ones (DDIM, PNDM, DDPM, DPM++)
start from noise of variance 1 and may end above 0; those that step between sigmas (Euler, Heun, LMS) start from sigma times noise.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, cast

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Sampling
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddpm import ddpm
from sfumato.diffusion.samplers.dpmpp_2m import dpmpp_2m
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.samplers.euler_ancestral import euler_ancestral
from sfumato.diffusion.samplers.heun import heun
from sfumato.diffusion.samplers.lms import lms
from sfumato.diffusion.samplers.plms import plms
from sfumato.diffusion.spacing import Levels, exponential, karras, leading, linspace, sigmas_at, trailing
from sfumato.errors import OptionError, ScheduleError, UnsupportedError
from sfumato.schedulers.value import WAY_OUT, Scheduler, TimestepSpacing

FinalSigma: TypeAlias = Literal["zero", "sigma_min"]


@dataclass(frozen=True, kw_only=True)
class DDIMScheduler(Scheduler):
    """DDIM. `clip_sample` bounds the denoised latents, which Stable Diffusion's must not be."""

    timestep_spacing: TimestepSpacing = "leading"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    rescale_betas_zero_snr: bool = False

    sampler: ClassVar[str] = "ddim"

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return _strided(self, _timesteps(self, steps), to_zero=self.set_alpha_to_one)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:
        """The sampler at work, with `eta` of DDPM's noise. Raises OptionError for an eta outside 0 … 1."""
        if not 0 <= eta <= 1:
            raise OptionError(f"eta {eta} is out of range; give 0 (deterministic) to 1 (as DDPM).")
        clip = self.clip_sample_range if self.clip_sample else None
        return ddim(x, levels.sigmas, eta=eta, noise=noise, targets=levels.targets, clip=clip)


@dataclass(frozen=True, kw_only=True)
class PNDMScheduler(Scheduler):
    """PLMS, which is PNDM without its Runge-Kutta start: `skip_prk_steps=True`, as every Stable Diffusion config says.

    One with that start can be made, handed on and saved, as its class's defaults are such; it has no levels and draws nothing.
    """

    timestep_spacing: TimestepSpacing = "leading"
    skip_prk_steps: bool = False
    set_alpha_to_one: bool = False

    sampler: ClassVar[str] = "plms"

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, UnsupportedError unless skip_prk_steps."""
        self._no_runge_kutta()
        return _strided(self, _timesteps(self, steps), to_zero=self.set_alpha_to_one)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002
        """The sampler at work. Raises OptionError for an eta, UnsupportedError unless skip_prk_steps."""
        self._no_eta(eta)
        self._no_runge_kutta()
        # diffusers takes the first step again from one stride above the second timestep of its list, wherever the first one was.
        stride, second = _stride(self, levels.run_steps), self._listed(levels.run_steps)[levels.skipped :][1:2]
        schedule = self.noise_schedule
        corrected, again = (schedule.sigma(second[0]), schedule.sigma(second[0] + stride)) if second else (None, None)
        mixes = "v_prediction" if self.prediction_type == "v_prediction" else "epsilon"
        return plms(x, levels.sigmas, mixes=mixes, targets=levels.targets, restart=again, corrected=corrected)

    def tail(self, levels: Levels, skipped: int) -> Levels:
        """The levels of a run that leaves out so many timesteps of diffusers' list, in which the second stands twice.

        Beyond the first, its run begins one level higher than another sampler's, and passes over the one after that: what it has got
        there it reads as if it were at the next (see `relabel`). Pictures depend on it. Raises ScheduleError if nothing is left.
        """
        listed = self._listed(levels.steps)[skipped:]
        if not skipped or not listed:
            return levels.part(skipped) if skipped else levels
        timesteps, stride = (listed[0], *listed[2:]), _stride(self, levels.steps)
        schedule, last = self.noise_schedule, levels.sigmas[-1]
        targets = tuple(last if t < stride else schedule.sigma(t - stride) for t in timesteps)
        return Levels(
            sigmas=(*sigmas_at(schedule, timesteps), last),
            timesteps=timesteps,
            targets=targets,
            skipped=skipped,
            run=levels.steps,
        )

    def _listed(self, steps: int) -> tuple[float, ...]:
        """The timesteps as diffusers lists them for PLMS: the second twice, because it corrects the first step there."""
        timesteps = _timesteps(self, steps)
        return (*timesteps[:2], *timesteps[1:])

    def _no_runge_kutta(self) -> None:
        if not self.skip_prk_steps:
            raise UnsupportedError(
                "PNDMScheduler's Runge-Kutta start (skip_prk_steps=False) is not honoured; "
                f"PNDMScheduler.from_config(config, skip_prk_steps=True) draws without it; or {WAY_OUT}"
            )


@dataclass(frozen=True, kw_only=True)
class DDPMScheduler(Scheduler):
    """DDPM's ancestral sampling. `clip_sample` bounds the denoised latents, which Stable Diffusion's must not be."""

    timestep_spacing: TimestepSpacing = "leading"
    variance_type: str | None = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    rescale_betas_zero_snr: bool = False

    sampler: ClassVar[str] = "ddpm"
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        # The logarithm is taken and undone, and null, which DPM++'s configs bring along, is read as the default: all the same.
        "variance_type": ("fixed_small", "fixed_small_log", None),
    }

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return _between_sigmas(self, _timesteps(self, steps))

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:
        """The sampler at work, which takes noise at every step. Raises OptionError for an eta."""
        self._no_eta(eta)
        return ddpm(x, levels.sigmas, noise=noise, clip=self.clip_sample_range if self.clip_sample else None)


@dataclass(frozen=True, kw_only=True)
class _SigmaScheduler(Scheduler):
    """A scheduler of the second family: latents are x itself, and timesteps may be fractions."""

    def initial_scale(self, levels: Levels) -> float:
        # Where the first level is training's last, x there is taken to be nothing but noise; leading spacing starts below it.
        return levels.sigmas[0] if self.timestep_spacing != "leading" else super().initial_scale(levels)

    def latents_scale(self, sigma: float) -> float:  # noqa: ARG002
        return 1.0

    def levels(self, steps: int) -> Levels:
        return _between_sigmas(self, _timesteps(self, steps, whole=False))


@dataclass(frozen=True, kw_only=True)
class _FreeSigmas(Scheduler):
    """A scheduler that can also space its sigmas by a rule of their own, between those that the timesteps begin and end with."""

    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: bool | None = False
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_karras_sigmas and self.use_exponential_sigmas:
            raise OptionError("use_karras_sigmas and use_exponential_sigmas can't both be on; choose one.")

    @property
    def spacing(self) -> str:
        if self.use_karras_sigmas:
            return "karras"
        return "exponential" if self.use_exponential_sigmas else self.timestep_spacing

    def levels(self, steps: int) -> Levels:
        levels = super().levels(steps)
        if self.spacing == self.timestep_spacing:
            return levels
        sigmas = self._spaced_freely(levels.sigmas[0], levels.sigmas[-2], levels.steps)
        timesteps = tuple(self.noise_schedule.timestep(sigma) for sigma in sigmas)
        return Levels(sigmas=(*sigmas, levels.sigmas[-1]), timesteps=timesteps)

    def _spaced_freely(self, first: float, last: float, steps: int) -> tuple[float, ...]:
        top = first if self.sigma_max is None else self.sigma_max
        bottom = last if self.sigma_min is None else self.sigma_min
        return karras(top, bottom, steps) if self.use_karras_sigmas else exponential(top, bottom, steps)


@dataclass(frozen=True, kw_only=True)
class EulerDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Euler's method."""

    interpolation_type: str = "linear"
    timestep_type: str = "discrete"
    final_sigmas_type: FinalSigma = "zero"
    rescale_betas_zero_snr: bool = False

    sampler: ClassVar[str] = "euler"
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
    }

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return _ending(self, super().levels(steps), self.final_sigmas_type)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        return euler(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class EulerAncestralDiscreteScheduler(_SigmaScheduler):
    """Euler's method with part of the noise renewed at each step."""

    rescale_betas_zero_snr: bool = False

    sampler: ClassVar[str] = "euler_a"

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:
        """The sampler at work, which takes noise at every step. Raises OptionError for an eta."""
        self._no_eta(eta)
        return euler_ancestral(x, levels.sigmas, noise=noise)


@dataclass(frozen=True, kw_only=True)
class HeunDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Heun's method."""

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)
    clip_sample: bool = False
    clip_sample_range: float = 1.0

    sampler: ClassVar[str] = "heun"

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        return heun(x, levels.sigmas, clip=self.clip_sample_range if self.clip_sample else None)


@dataclass(frozen=True, kw_only=True)
class LMSDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Linear multistep method of fourth order."""

    sampler: ClassVar[str] = "lms"

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        return lms(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class DPMSolverMultistepScheduler(_FreeSigmas):
    """DPM-Solver++ of first or second order, multistep."""

    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    final_sigmas_type: FinalSigma = "zero"
    lambda_min_clipped: float = -math.inf
    variance_type: str | None = None
    use_lu_lambdas: bool | None = False
    use_flow_sigmas: bool | None = False
    flow_shift: float | None = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: str = "exponential"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    rescale_betas_zero_snr: bool = False

    sampler: ClassVar[str] = "dpmpp_2m"
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        # Configs of kindred classes (DEIS, UniPC) bring their own names, which diffusers reads as these defaults.
        "algorithm_type": ("dpmsolver++", "deis"),
        "solver_type": ("midpoint", "heun", "logrho", "bh1", "bh2"),
        "solver_order": (2, 1),
        "variance_type": (None,),
        "use_lu_lambdas": (False, None),
        "use_flow_sigmas": (False, None),
        "use_dynamic_shifting": (False, None),
    }

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, of which most spacings need a timestep more.

        Raises UnsupportedError for lambda_min_clipped with trailing spacing.
        """
        schedule, steps = self.noise_schedule, _whole(steps)
        if self.spacing == self.timestep_spacing:
            timesteps = self._spare_timesteps(steps)
            sigmas = sigmas_at(schedule, timesteps)
        else:
            sigmas = self._spaced_freely(schedule.sigma(schedule.steps - 1), schedule.sigma(0), steps)
            between = [schedule.timestep(sigma) for sigma in sigmas]
            # Whole timesteps, as diffusers has them: karras rounds first, unless the schedule is the cosine one.
            rounds = self.use_karras_sigmas and self.beta_schedule != "squaredcos_cap_v2"
            timesteps = tuple(float(round(t) if rounds else math.floor(t)) for t in between)
        return _ending(self, Levels(sigmas=(*sigmas, 0.0), timesteps=timesteps), self.final_sigmas_type)

    def _spare_timesteps(self, steps: int) -> tuple[float, ...]:
        """Timesteps, without those noisier than lambda_min_clipped allows; of one level more, where the last is left out."""
        lambdas = -self.noise_schedule.sigmas.log()
        usable = int((lambdas >= self.lambda_min_clipped).sum())
        if steps >= usable and self.timestep_spacing != "trailing":
            raise ScheduleError(f"{steps} steps of DPM++ need {steps + 1} timesteps of {usable}; ask for fewer steps.")
        match self.timestep_spacing:
            case "leading":
                return leading(usable, steps + 1, offset=self.steps_offset)[:-1]
            case "trailing" if usable < self.num_train_timesteps:
                raise UnsupportedError(
                    "lambda_min_clipped is not honoured with trailing spacing; use leading or linspace."
                )
            case "trailing":
                return trailing(usable, steps)
            case "linspace":
                return linspace(usable, steps + 1)[:-1]

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002
        """The sampler at work, which takes no noise. Raises OptionError for an eta."""
        self._no_eta(eta)
        return dpmpp_2m(
            x,
            levels.sigmas,
            order=2 if self.solver_order == 2 else 1,
            solver="heun" if self.solver_type == "heun" else "midpoint",
            first_order_final=not levels.is_cut
            and (self.euler_at_final or (self.lower_order_final and levels.run_steps < 15)),
        )


def _timesteps(scheduler: Scheduler, steps: int, *, whole: bool = True) -> tuple[float, ...]:
    steps, last = _whole(steps), scheduler.num_train_timesteps
    match scheduler.timestep_spacing:
        case "leading":
            return leading(last, steps, offset=scheduler.steps_offset)
        case "trailing":
            return trailing(last, steps)
        case "linspace":
            return linspace(last, steps, whole=whole)


def _between_sigmas(scheduler: Scheduler, timesteps: tuple[float, ...]) -> Levels:
    return Levels(sigmas=(*sigmas_at(scheduler.noise_schedule, timesteps), 0.0), timesteps=timesteps)


def _strided(scheduler: Scheduler, timesteps: tuple[float, ...], *, to_zero: bool) -> Levels:
    """Levels whose steps aim a fixed stride of timesteps lower, whatever is visited next."""
    schedule, stride = scheduler.noise_schedule, _stride(scheduler, len(timesteps))
    last = 0.0 if to_zero else schedule.sigma(0)
    targets = tuple(last if t < stride else schedule.sigma(t - stride) for t in timesteps)
    return Levels(sigmas=(*sigmas_at(schedule, timesteps), targets[-1]), timesteps=timesteps, targets=targets)


def _stride(scheduler: Scheduler, steps: int) -> int:
    return scheduler.num_train_timesteps // steps


def _ending(scheduler: Scheduler, levels: Levels, final: FinalSigma) -> Levels:
    last = 0.0 if final == "zero" else scheduler.noise_schedule.sigma(0)
    return Levels(sigmas=(*levels.sigmas[:-1], last), timesteps=levels.timesteps)


def _whole(steps: object) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise ScheduleError(f"{steps!r} is no number of steps; give a whole number (usual: 20 to 50).")
    return operator.index(cast(Any, steps))
