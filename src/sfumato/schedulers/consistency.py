"""The classes for distilled networks of few steps: LCM and TCD."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.samplers.lcm import lcm
from sfumato.diffusion.samplers.tcd import tcd
from sfumato.diffusion.spacing import Levels, sigmas_at
from sfumato.schedulers.levels import distilled_timesteps, whole_steps
from sfumato.schedulers.starting import check_eta
from sfumato.schedulers.thresholding import thresholded
from sfumato.schedulers.value import Scheduler, TimestepSpacing

# Song et al. 2023, arXiv:2303.01469, appendix C: sigma_data, the std that training data are taken to have.
_SIGMA_DATA = 0.5


@dataclass(frozen=True, kw_only=True)
class _Distilled(Scheduler):
    """What the two have in common: timesteps among the `original_inference_steps` that the network was distilled on."""

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)
    beta_schedule: str = field(default="scaled_linear", kw_only=False)
    timestep_spacing: TimestepSpacing = "leading"
    original_inference_steps: int = 50
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    timestep_scaling: float = 10.0
    rescale_betas_zero_snr: bool = False

    _terminal_signal: ClassVar[float] = 2.0**-48

    @property
    def _clip(self) -> float | None:
        return self.clip_sample_range if self.clip_sample else None

    def _levels(self, steps: int, last: float) -> Levels:
        timesteps = distilled_timesteps(self.num_train_timesteps, whole_steps(steps), self.original_inference_steps)
        return Levels(sigmas=(*sigmas_at(self.noise_schedule, timesteps), last), timesteps=timesteps)


@dataclass(frozen=True, kw_only=True)
class LCMScheduler(_Distilled):
    """LCM. `timestep_scaling` makes the consistency function keep the less of x, the larger it is."""

    _sampler: ClassVar[str] = "lcm"

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for more steps than the network was distilled on."""
        return self._levels(steps, 0.0)

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, which takes noise at every step but the last. Raises OptionError for an eta."""
        self._no_eta(eta)
        schedule = self.noise_schedule

        def boundary(sigma: float) -> tuple[float, float]:
            """Song et al. 2023, arXiv:2303.01469, appendix C."""
            time = levels.timestep(sigma, schedule) * self.timestep_scaling
            whole = time**2 + _SIGMA_DATA**2
            return _SIGMA_DATA**2 / whole, time / math.sqrt(whole)

        if not self.thresholding:
            return lcm(x, levels.sigmas, noise=noise, boundary=boundary, clip=self._clip)
        return thresholded(self, lcm(x, levels.sigmas, noise=noise, boundary=boundary))


@dataclass(frozen=True, kw_only=True)
class TCDScheduler(_Distilled):
    """TCD. `eta` is the paper's gamma: how much of the way to the next level is gone too far, and back with noise."""

    _sampler: ClassVar[str] = "tcd"
    # diffusers' class has the option and does not look at it.
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {**Scheduler._fixed, "thresholding": (False,)}

    def levels(self, steps: int) -> Levels:
        """The levels of a run. Raises ScheduleError for more steps than the network was distilled on."""
        return self._levels(steps, self.noise_schedule.sigma(0))

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> Sampling:
        """The sampler at work, with noise where eta is above 0. Raises OptionError for an eta outside 0 … 1."""
        check_eta(eta)
        through = None
        if eta > 0:
            # In float32, whose rounding decides where the product comes out whole.
            last = self.noise_schedule.timestep(levels.sigmas[-1]) if levels.is_cut else 0.0
            low = [math.floor(np.float32(1 - eta) * np.float32(timestep)) for timestep in (*levels.timesteps[1:], last)]
            through = sigmas_at(self.noise_schedule, low)
        return tcd(x, levels.sigmas, noise=noise, through=through)
