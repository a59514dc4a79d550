"""What stands for a scheduler that a model names and Sfumato has not, so that the model opens and another can take its place."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self

from torch import Tensor

from sfumato.diffusion.conversation import Noise, NoisePathFrom
from sfumato.diffusion.spacing import Levels
from sfumato.errors import UnsupportedError
from sfumato.schedulers.value import WAY_OUT, Scheduler, SchedulerConfig, said_in


@dataclass(frozen=True, kw_only=True)
class UnavailableScheduler(Scheduler, named=False):
    """A scheduler's config that can be read, handed on and saved, and draws nothing.

    The noise schedule and the prediction type are as the config says them, with `Scheduler`'s defaults where it doesn't.
    Its class in diffusers may not be ours, or one of its options not honoured: `reason` says which.
    """

    reason: str = ""
    written: str = "{}"
    """The config, as JSON."""

    _sampler: ClassVar[str] = "unavailable"
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    @classmethod
    def because(cls, reason: str, config: Mapping[str, Any] | Scheduler) -> Self:
        """The stand-in for the scheduler of a config. Raises as from_config for values that make no noise schedule."""
        said, shared = said_in(config), Scheduler.options()
        raw = config.config if isinstance(config, Scheduler) else config
        written = json.dumps(dict(raw), sort_keys=True, default=list)
        return cls(**{name: said[name] for name in shared if name in said}, reason=reason, written=written)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | Scheduler, **overrides: Any) -> Self:
        """The same as `because`, of a class that is not named; overrides are taken into the config."""
        raw = config.config if isinstance(config, Scheduler) else config
        return cls.because("no scheduler was named", {**raw, **overrides})

    @property
    def config(self) -> SchedulerConfig:
        """The config as it was given, without infinities, which JSON has not: they are those of options that are off."""
        raw = {name: value for name, value in json.loads(self.written).items() if value not in (math.inf, -math.inf)}
        return SchedulerConfig({"_use_default_values": [], **raw})

    def in_pipeline(self) -> Self:
        """Repaired as any scheduler is, as far as the config says what is to be repaired."""
        repaired = {"steps_offset": 1, "clip_sample": False}
        return self.because(self.reason, {**self.config, **{k: v for k, v in repaired.items() if k in self.config}})

    def levels(self, steps: int) -> Levels:
        """Raises UnsupportedError, which says why and what to do."""
        self.refuse()

    @property
    def unconditioned(self) -> bool:
        """Nothing is asked."""
        return False

    def start(
        self,
        x: Tensor,
        levels: Levels,
        noise: Noise,
        eta: float = 0.0,
        *,
        path: NoisePathFrom | None = None,
    ) -> NoReturn:
        """Raises UnsupportedError, which says why and what to do."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the UnsupportedError that says why this scheduler draws nothing, and what to do."""
        raise UnsupportedError(f"the model's scheduler can't be used: {self.reason.rstrip('.')}; {WAY_OUT}")
