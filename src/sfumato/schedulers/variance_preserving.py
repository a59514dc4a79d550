"""The classes that start from noise of variance 1 and step by fixed strides of timesteps: DDIM, PNDM, DDPM."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddpm import ddpm
from sfumato.diffusion.samplers.plms import plms
from sfumato.diffusion.samplers.pndm import pndm
from sfumato.diffusion.spacing import Levels, sigmas_at
from sfumato.errors import ScheduleError, UnsupportedError
from sfumato.schedulers.levels import between_sigmas, stride, strided, timesteps_of, whole_steps
from sfumato.schedulers.starting import check_eta
from sfumato.schedulers.thresholding import check_thresholding, dynamic_threshold, thresholded
from sfumato.schedulers.value import Scheduler, TimestepSpacing

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
        bound = None
        if self.thresholding:
            check_thresholding(self)
            bound = partial(dynamic_threshold, ratio=self.dynamic_thresholding_ratio, most=self.sample_max_value)
        elif self.clip_sample:
            bound = partial(torch.clamp, min=-self.clip_sample_range, max=self.clip_sample_range)
        return ddim(x, levels.sigmas, eta=eta, noise=noise, targets=levels.targets, bound=bound)


@dataclass(frozen=True, kw_only=True)
class PNDMScheduler(Scheduler):
    """PNDM: with `skip_prk_steps`, as every Stable Diffusion config says, PLMS; else with the paper's Runge-Kutta start of three steps.

    A run with that start has at least four steps, and none is left out at its beginning, as image to image does: diffusers begins its
    start in the middle there.
    """

    timestep_spacing: TimestepSpacing = "leading"
    skip_prk_steps: bool = False
    set_alpha_to_one: bool = False

    _sampler: ClassVar[str] = "plms"

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for steps out of range, or for fewer than four with a Runge-Kutta start."""
        if not self.skip_prk_steps and whole_steps(steps) < 4:
            raise ScheduleError(
                f"{steps} steps are too few for PNDM's Runge-Kutta start; ask for at least 4, or set skip_prk_steps=True."
            )
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
        """The sampler at work. Raises OptionError for an eta."""
        self._no_eta(eta)
        mixes = "v_prediction" if self.prediction_type == "v_prediction" else "epsilon"
        if not self.skip_prk_steps:
            return pndm(x, levels.sigmas, middles=self._middles(levels), mixes=mixes, targets=levels.targets)
        # diffusers takes the first step again from one stride above the second timestep of its list, wherever the first one was.
        jump, second = stride(self, levels.run_steps), self._listed(levels.run_steps)[levels.skipped :][1:2]
        schedule = self.noise_schedule
        corrected, again = (schedule.sigma(second[0]), schedule.sigma(second[0] + jump)) if second else (None, None)
        return plms(x, levels.sigmas, mixes=mixes, targets=levels.targets, restart=again, corrected=corrected)

    def tail(self, levels: Levels, skipped: int) -> Levels:
        """The levels of a run that leaves out so many timesteps of diffusers' list, in which the second stands twice.

        Beyond the first, its run begins one level higher than another sampler's, and passes over the one after that: what it has got
        there it reads as if it were at the next (see `relabel`). Pictures depend on it. Raises ScheduleError if nothing is left,
        UnsupportedError where it would begin inside a Runge-Kutta start.
        """
        if skipped and not self.skip_prk_steps:
            raise UnsupportedError(
                "a run that begins in the middle can't begin with PNDM's Runge-Kutta start; set skip_prk_steps=True."
            )
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

    def _middles(self, levels: Levels) -> list[tuple[float, float]]:
        """The levels in the middle of the first three steps: half a stride below where one begins, and half a stride above where it ends."""
        schedule, half = self.noise_schedule, stride(self, levels.run_steps) // 2
        timesteps = (*levels.timesteps, float(round(schedule.timestep(levels.sigmas[-1]))))
        return [
            (schedule.sigma(here - half), schedule.sigma(after + half))
            for here, after in list(pairwise(timesteps))[: min(3, levels.steps)]
        ]


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
        clip = self.clip_sample_range if self.clip_sample and not self.thresholding else None
        return thresholded(self, ddpm(x, levels.sigmas, noise=noise, clip=clip))
