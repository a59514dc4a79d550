"""What several scheduler classes share: latents that are x itself, and levels spaced by a rule of their own."""

from dataclasses import dataclass
from typing import ClassVar

from sfumato.diffusion.spacing import Levels, beta, exponential, karras
from sfumato.errors import OptionError
from sfumato.schedulers.levels import Rounding, between_sigmas, timesteps_of
from sfumato.schedulers.value import Scheduler


@dataclass(frozen=True, kw_only=True)
class _SigmaScheduler(Scheduler):
    """A scheduler that steps between sigmas: latents are x itself, and timesteps may be fractions."""

    def initial_scale(self, levels: Levels) -> float:
        # Where the first level is training's last, x there is taken to be nothing but noise; leading spacing starts below it.
        return levels.sigmas[0] if self.timestep_spacing != "leading" else super().initial_scale(levels)

    def latents_scale(self, sigma: float) -> float:
        return 1.0

    def levels(self, steps: int) -> Levels:
        return between_sigmas(self, timesteps_of(self, steps, whole=False))


@dataclass(frozen=True, kw_only=True)
class _FreeSigmas(Scheduler):
    """A scheduler that can also space its sigmas by a rule of their own, between those that the timesteps begin and end with."""

    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: bool | None = False
    sigma_min: float | None = None
    sigma_max: float | None = None

    # What the classes do with the timesteps of karras sigmas, and of the others.
    _karras_rounding: ClassVar[Rounding] = staticmethod(lambda timestep: timestep)
    _rounding: ClassVar[Rounding] = staticmethod(lambda timestep: timestep)

    def __post_init__(self) -> None:
        super().__post_init__()
        on = [name for name in FREE_SPACINGS.values() if getattr(self, name, False)]
        if len(on) > 1:
            raise OptionError(f"{' and '.join(on)} can't both be on; choose one.")

    @property
    def spacing(self) -> str:
        return next(
            (name for name, option in FREE_SPACINGS.items() if getattr(self, option, False)), self.timestep_spacing
        )

    def levels(self, steps: int) -> Levels:
        levels = super().levels(steps)
        if self.spacing == self.timestep_spacing:
            return levels
        sigmas = self._spaced_freely(levels.sigmas[0], levels.sigmas[-2], levels.steps)
        return Levels(sigmas=(*sigmas, levels.sigmas[-1]), timesteps=self._timesteps_at(sigmas))

    def _spaced_freely(self, first: float, last: float, steps: int) -> tuple[float, ...]:
        top = first if self.sigma_max is None else self.sigma_max
        bottom = last if self.sigma_min is None else self.sigma_min
        match self.spacing:
            case "karras":
                return karras(top, bottom, steps)
            case "beta":
                return beta(top, bottom, steps)
            case _:
                return exponential(top, bottom, steps)

    def _timesteps_at(self, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        rounding = self._karras_rounding if self.use_karras_sigmas else self._rounding
        return tuple(rounding(self.noise_schedule.timestep(sigma)) for sigma in sigmas)


FREE_SPACINGS = {
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}
"""The spacings that an option of its own turns on."""
