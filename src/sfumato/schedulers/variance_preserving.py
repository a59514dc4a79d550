"""The classes that start from noise of variance 1 and step by fixed strides of timesteps: DDIM, PNDM, DDPM."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddpm import ddpm
from sfumato.diffusion.samplers.plms import plms
from sfumato.diffusion.spacing import Levels, sigmas_at
from sfumato.errors import UnsupportedError
from sfumato.schedulers.levels import between_sigmas, stride, strided, timesteps_of
from sfumato.schedulers.starting import check_eta
from sfumato.schedulers.value import WAY_OUT, Scheduler, TimestepSpacing

# Where diffusers has no signal at all at the last timestep: so little that float32 can't tell.
_NEXT_TO_NONE = 2.0**-48


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

    _sampler: ClassVar[str] = "ddim"
    _terminal_signal: ClassVar[float] = _NEXT_TO_NONE

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return strided(self, timesteps_of(self, steps), to_zero=self.set_alpha_to_one)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, with `eta` of DDPM's noise. Raises OptionError for an eta outside 0 … 1."""
        check_eta(eta)
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

    _sampler: ClassVar[str] = "plms"

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, UnsupportedError unless skip_prk_steps."""
        self._no_runge_kutta()
        return strided(self, timesteps_of(self, steps), to_zero=self.set_alpha_to_one)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work. Raises OptionError for an eta, UnsupportedError unless skip_prk_steps."""
        self._no_eta(eta)
        self._no_runge_kutta()
        # diffusers takes the first step again from one stride above the second timestep of its list, wherever the first one was.
        jump, second = stride(self, levels.run_steps), self._listed(levels.run_steps)[levels.skipped :][1:2]
        schedule = self.noise_schedule
        corrected, again = (schedule.sigma(second[0]), schedule.sigma(second[0] + jump)) if second else (None, None)
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
        timesteps, jump = (listed[0], *listed[2:]), stride(self, levels.steps)
        schedule, last = self.noise_schedule, levels.sigmas[-1]
        targets = tuple(last if t < jump else schedule.sigma(t - jump) for t in timesteps)
        return Levels(
            sigmas=(*sigmas_at(schedule, timesteps), last),
            timesteps=timesteps,
            targets=targets,
            skipped=skipped,
            run=levels.steps,
        )

    def _listed(self, steps: int) -> tuple[float, ...]:
        """The timesteps as diffusers lists them for PLMS: the second twice, because it corrects the first step there."""
        timesteps = timesteps_of(self, steps)
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

    _sampler: ClassVar[str] = "ddpm"
    _terminal_signal: ClassVar[float] = _NEXT_TO_NONE
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        # The logarithm is taken and undone, and null, which DPM++'s configs bring along, is read as the default: all the same.
        "variance_type": ("fixed_small", "fixed_small_log", None),
    }

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return between_sigmas(self, timesteps_of(self, steps))

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
        return ddpm(x, levels.sigmas, noise=noise, clip=self.clip_sample_range if self.clip_sample else None)
