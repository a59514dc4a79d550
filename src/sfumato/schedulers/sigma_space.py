"""The classes that step between sigmas: Euler, Heun, LMS, DPM2 and their ancestral forms, DPM++ SDE."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom, Query, Sampling
from sfumato.diffusion.samplers.dpm2 import dpm2
from sfumato.diffusion.samplers.dpm2_ancestral import dpm2_ancestral
from sfumato.diffusion.samplers.dpmpp_sde import dpmpp_sde
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.samplers.euler_ancestral import euler_ancestral
from sfumato.diffusion.samplers.heun import heun
from sfumato.diffusion.samplers.lms import lms
from sfumato.diffusion.spacing import Levels
from sfumato.schedulers.free import _FreeSigmas, _SigmaScheduler
from sfumato.schedulers.levels import FinalSigma, Rounding, ending, final_sigma
from sfumato.schedulers.starting import path_or_noise
from sfumato.schedulers.value import Scheduler


@dataclass(frozen=True, kw_only=True)
class EulerDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Euler's method."""

    interpolation_type: str = "linear"
    timestep_type: str = "discrete"
    final_sigmas_type: FinalSigma = "zero"
    rescale_betas_zero_snr: bool = False

    _sampler: ClassVar[str] = "euler"
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **Scheduler._fixed,
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
    }

    def levels(self, steps: int) -> Levels:  # noqa: D102
        return ending(super().levels(steps), final_sigma(self, self.final_sigmas_type))

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
        return euler(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class EulerAncestralDiscreteScheduler(_SigmaScheduler):
    """Euler's method with part of the noise renewed at each step."""

    rescale_betas_zero_snr: bool = False

    _sampler: ClassVar[str] = "euler_a"

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
        return euler_ancestral(x, levels.sigmas, noise=noise)


@dataclass(frozen=True, kw_only=True)
class HeunDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Heun's method."""

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)
    clip_sample: bool = False
    clip_sample_range: float = 1.0

    _sampler: ClassVar[str] = "heun"

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
        return heun(x, levels.sigmas, clip=self.clip_sample_range if self.clip_sample else None)


@dataclass(frozen=True, kw_only=True)
class LMSDiscreteScheduler(_FreeSigmas, _SigmaScheduler):
    """Linear multistep method of fourth order."""

    _sampler: ClassVar[str] = "lms"

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
        return lms(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class _DPM2(_FreeSigmas, _SigmaScheduler):
    """What the two classes of DPM2 share."""

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)

    _karras_rounding: ClassVar[Rounding] = staticmethod(lambda timestep: float(round(timestep)))


@dataclass(frozen=True, kw_only=True)
class KDPM2DiscreteScheduler(_DPM2):
    """DPM2."""

    _sampler: ClassVar[str] = "dpm2"

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
        return dpm2(x, levels.sigmas)


@dataclass(frozen=True, kw_only=True)
class KDPM2AncestralDiscreteScheduler(_DPM2):
    """DPM2 with part of the noise renewed at each step."""

    _sampler: ClassVar[str] = "dpm2_a"

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
        return _between_levels(dpm2_ancestral(x, levels.sigmas, noise=noise), levels)


def _between_levels(sampling: Sampling, levels: Levels) -> Sampling:
    """A middle that falls on the next level, as an ancestral one does but for a rounding, asked just below it.

    The network is then told the timestep of that sigma, and not the level's own, which diffusers rounds.
    """
    said, inside = next(sampling), False
    while True:
        if isinstance(said, Query) and inside and said.sigma in levels.sigmas:
            said = Query(said.x, math.nextafter(said.sigma, 0.0))
        inside = isinstance(said, Query)
        answer = yield said
        try:
            said = sampling.send(answer)
        except StopIteration as end:
            return end.value


@dataclass(frozen=True, kw_only=True)
class DPMSolverSDEScheduler(_FreeSigmas, _SigmaScheduler):
    """DPM++ SDE. `noise_sampler_seed` determines its path in place of the image's seed, which does otherwise."""

    beta_start: float = field(default=0.00085, kw_only=False)
    beta_end: float = field(default=0.012, kw_only=False)
    noise_sampler_seed: int | None = None

    _sampler: ClassVar[str] = "dpmpp_sde"

    def start(
        self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0, *, path: NoisePathFrom | None = None
    ) -> Sampling:
        """The sampler at work, which takes its noise from a path. Raises OptionError for an eta."""
        self._no_eta(eta)
        return dpmpp_sde(x, levels.sigmas, path=path_or_noise(path, levels.sigmas, noise, self.noise_sampler_seed))
