"""What a scheduler is here: a value that names a sampler, a spacing and a noise schedule, and reads and writes diffusers' configs."""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeAlias, cast

from torch import Tensor

from sfumato.checkpoints.hub import fetch, is_hub_id
from sfumato.diffusion.conversation import Noise, NoisePathFrom, Sampling
from sfumato.diffusion.noise_schedule import NoiseSchedule, ScheduleKind
from sfumato.diffusion.prediction import Answer, PredictionType
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.diffusion.spacing import Levels
from sfumato.errors import (
    ConfigError,
    CorruptFileError,
    MissingFileError,
    OptionError,
    OutputError,
    UnknownNameError,
    UnsupportedError,
)
from sfumato.schedulers.options import OLDER_SAMPLE, OPTIONS_OF_THE_FIELD, OWN_OPTIONS, RETIRED_OPTIONS, check_kinds

logger = logging.getLogger("sfumato")

TimestepSpacing: TypeAlias = Literal["leading", "trailing", "linspace"]

CONFIG_NAME = "scheduler_config.json"

# What diffusers' schedulers keep or do in the middle of a run.
_STATE_OF_THE_FIELD = {
    "add_noise", "alphas_cumprod", "betas", "init_noise_sigma", "num_inference_steps", "scale_model_input",
    "set_timesteps", "sigmas", "step", "timesteps",
}  # fmt: skip


class SchedulerConfig(dict[str, Any]):
    """A scheduler's options, read-only: `config["beta_start"]` or `config.beta_start`; a dict wherever one is expected."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the scheduler config has no option {name!r}; it has {', '.join(self)}.") from None

    def _read_only(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "a scheduler config is read-only; make another scheduler with from_config(config, option=value)."
        )

    __setattr__ = __delattr__ = __setitem__ = __delitem__ = __ior__ = _read_only  # pyright: ignore
    clear = pop = popitem = setdefault = update = _read_only  # pyright: ignore

    def __reduce__(self) -> tuple[type["SchedulerConfig"], tuple[dict[str, Any]]]:
        return SchedulerConfig, (dict(self),)


SCHEDULERS: dict[str, type["Scheduler"]] = {}
"""The scheduler classes by name, each entered where it is defined."""

WAY_OUT = (
    "use another: pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config), "
    "from_pretrained(…, scheduler=…), or --sampler euler for the command."
)
"""What to do about a model whose own scheduler can't be used."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scheduler's options come from, which is no part of what it does: for the classes made from its config."""

    given: frozenset[str] = frozenset()
    """Options that were said; the rest are the class's defaults, in whose place another class has its own."""
    foreign: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options that its config carries for other classes."""


@dataclass(frozen=True)
class Scheduler:
    """What all schedulers are: a sampler, a spacing and a noise schedule, by diffusers' option names.

    Raises UnknownNameError, ScheduleError or OptionError for values out of range, UnsupportedError for options not honoured.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: Sequence[float] | None = None
    _: KW_ONLY
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: TimestepSpacing = "linspace"
    steps_offset: int = 0
    _origin: Origin | None = field(default=None, repr=False, compare=False)

    _sampler: ClassVar[str]
    # Options that are known and must keep one of these values, because nothing here acts on another.
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    # Values that configs of kindred classes bring along, and what diffusers' class of this name reads them as.
    _read_as: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    # What stands for no signal at all with rescale_betas_zero_snr: diffusers' classes have 0 or this.
    _terminal_signal: ClassVar[float] = 2.0**-24
    _said: ClassVar[frozenset[str]]

    def __new__(cls, *args: object, **options: object) -> Self:  # noqa: D102
        self = super().__new__(cls)
        # Only here is seen which options were said, and which are defaults.
        object.__setattr__(self, "_said", {*options, *(name for name, _ in zip(cls.options(), args, strict=False))})
        return self

    def __post_init__(self) -> None:
        if self.trained_betas is not None:
            object.__setattr__(self, "trained_betas", _numbers("trained_betas", self.trained_betas))
        for option, meanings in self._read_as.items():
            object.__setattr__(self, option, meanings.get(str(getattr(self, option)), getattr(self, option)))
        defaults = self.options()
        values = {name: getattr(self, name) for name in defaults}
        check_kinds(type(self), values, defaults)
        if self._origin is None:
            origin = Origin(given=frozenset(self._said & values.keys()))
        else:  # made from another: what differs from the default was said there or now (dataclasses.replace says everything)
            origin = Origin(
                given=self._origin.given | {name for name in values if values[name] != defaults[name]},
                foreign=self._origin.foreign,
            )
        object.__setattr__(self, "_origin", origin)
        for option, allowed in self._fixed.items():
            if getattr(self, option, allowed[0]) not in allowed:
                raise UnsupportedError(
                    f"{type(self).__name__} does not honour {option}={getattr(self, option)!r}; leave it at {allowed[0]!r}."
                )
        _ = self.noise_schedule.alphas_cumprod  # betas that make no schedule are said here, not when an image is drawn

    def __getattr__(self, name: str) -> NoReturn:
        if name in _STATE_OF_THE_FIELD:
            raise AttributeError(
                f"{type(self).__name__} has no {name}: it is a value and holds no run; see levels(steps) and start(x, levels, noise)."
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The options of this class by name, each with its default."""
        return {option.name: option.default for option in fields(cls) if not option.name.startswith("_")}

    @property
    def origin(self) -> Origin:
        """Which options were said, and those carried for other classes."""
        return self._origin or Origin()

    @property
    def sampler(self) -> str:
        """The sampler's short name."""
        return self._sampler

    @property
    def unconditioned(self) -> bool:
        """Whether the sampler asks for the estimate without the prompt, whatever the guidance."""
        return SAMPLERS[self.sampler].unconditioned

    def steps_of(self, levels: Levels) -> int | None:
        """How many steps a run on these levels has; None where the sampler finds out on the way."""
        return SAMPLERS[self.sampler].steps(levels.sigmas)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of a run's options it takes no heed of, in words."""
        return ()

    @property
    def answer(self) -> Answer:
        """What the network answers, in the terms of `denoised_from`."""
        return self.prediction_type

    @property
    def unit(self) -> float:
        """What x and sigma are counted in: x is `(latents + sigma * noise) / unit`, and the levels are `sigma / unit`."""
        return 1.0

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise the network was trained on."""
        return NoiseSchedule(
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            kind=cast(ScheduleKind, self.beta_schedule),
            steps=self.num_train_timesteps,
            trained_betas=cast("tuple[float, ...] | None", self.trained_betas),
            terminal_signal=self._terminal_signal if getattr(self, "rescale_betas_zero_snr", False) else None,
        )

    @property
    def spacing(self) -> str:
        """Name of the schedule that says which levels a run visits."""
        return self.timestep_spacing

    def levels(self, steps: int) -> Levels:
        """The levels that a run of so many steps visits. Raises ScheduleError for steps that the noise schedule hasn't."""
        raise NotImplementedError

    def tail(self, levels: Levels, skipped: int) -> Levels:
        """The levels of a run that leaves out so many steps at its beginning, as image to image does. Raises ScheduleError for all of them."""
        return levels.part(skipped) if skipped else levels

    def initial_scale(self, levels: Levels) -> float:
        """What standard normal noise is multiplied by to be x at the first level."""
        # Noise of variance 1 is where variance-preserving samplers start; in sigma space that is sqrt(1 + sigma**2).
        return math.sqrt(1 + levels.sigmas[0] ** 2)

    def final_scale(self, levels: Levels) -> float:
        """What x at the last level is multiplied by to be latents."""
        return self.latents_scale(levels.sigmas[-1])

    def latents_scale(self, sigma: float) -> float:
        """What x at `sigma` is multiplied by to be latents as the class of that name in diffusers holds them at that level."""
        return 1 / math.sqrt(1 + sigma**2)

    def start(
        self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0, *, path: NoisePathFrom | None = None
    ) -> Sampling:
        """The sampler at work from `x` at the first level; `noise` is drawn from where it needs any.

        `path` begins a Brownian path for the samplers that take their noise from one; without it, theirs is drawn from `noise`.
        `eta` is for DDIM and its kin. Raises OptionError for an eta that the sampler hasn't, or outside 0 … 1.
        """
        raise NotImplementedError

    @property
    def config(self) -> SchedulerConfig:
        """All options and `_class_name`, as in a `scheduler_config.json`; options carried for other classes included."""
        own = self.options()
        options = {**self.origin.foreign, **{name: _plain(getattr(self, name)) for name in own}}
        # JSON has no infinity. Only lambda_min_clipped may be infinite, which is its default and means that nothing is clipped.
        options = {name: value for name, value in options.items() if value not in (math.inf, -math.inf)}
        defaulted = sorted(own.keys() - self.origin.given)
        return SchedulerConfig({**options, "_class_name": type(self).__name__, "_use_default_values": defaulted})

    def __init_subclass__(cls, *, named: bool = True) -> None:
        if named and not cls.__name__.startswith("_"):
            SCHEDULERS[cls.__name__] = cls

    @property
    def compatibles(self) -> list[type["Scheduler"]]:
        """The classes that can be made from this one's config."""
        return list(SCHEDULERS.values())

    @classmethod
    def from_config(cls, config: "Mapping[str, Any] | Scheduler", **overrides: Any) -> Self:
        """A scheduler of this class with another's options where it has them, and with those given here.

        Options of a config that nobody knows are said in the log and left alone, as diffusers does.
        Raises UnsupportedError for an override that this class does not act on, UnknownNameError for one that no class has,
        ConfigError for a config that is no mapping.
        """
        own = cls.options()
        for option in overrides.keys() - own.keys():
            if option not in OPTIONS_OF_THE_FIELD | OWN_OPTIONS:
                raise UnknownNameError(f"option of {cls.__name__}", option, sorted(own))
            if overrides[option] not in (None, False):
                raise UnsupportedError(f"{cls.__name__} has no option {option}, which would do nothing; leave it out.")
        said = {**said_in(config), **overrides}
        chosen = {name: value for name, value in said.items() if name in own}
        foreign = {name: value for name, value in said.items() if name not in own}
        return cls(**chosen, _origin=Origin(given=frozenset(chosen), foreign=foreign))

    def in_pipeline(self) -> Self:
        """This scheduler as a Stable Diffusion pipeline of diffusers has it from the moment it is built with it: with steps_offset 1
        and without clip_sample. Folders older than these options depend on that; a scheduler put in later is taken as it is.
        """
        repaired = {"steps_offset": 1} | ({"clip_sample": False} if "clip_sample" in self.options() else {})
        values = {name: getattr(self, name) for name in self.options()}
        foreign = {**self.origin.foreign, **({"clip_sample": False} if self.origin.foreign.get("clip_sample") else {})}
        scheduler = type(self)(**{**values, **repaired})
        # Another class made from it still has its own defaults.
        object.__setattr__(scheduler, "_origin", Origin(given=self.origin.given, foreign=foreign))
        return scheduler

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        **overrides: Any,
    ) -> Self:
        """A scheduler from the `scheduler_config.json` of a folder, or of a model of the hub by its id.

        Raises MissingFileError, CorruptFileError, DownloadError, and as from_config.
        """
        folder = Path(name).expanduser()
        if not folder.exists() and is_hub_id(name):
            wanted = f"{subfolder}/{CONFIG_NAME}" if subfolder else CONFIG_NAME
            where = None if cache_dir is None else Path(cache_dir)
            folder = fetch(
                name, revision=revision, token=token, local_files_only=local_files_only, cache_dir=where, only=[wanted]
            )
        path = Path(folder, subfolder or "", CONFIG_NAME)
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"{path} does not exist; give a folder that holds a {CONFIG_NAME}.") from None
        except ValueError as error:
            raise CorruptFileError(f"{path} is not JSON ({error}); get the file again.") from error
        return cls.from_config(config, **overrides)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `scheduler_config.json` into a folder, which is made where it is not there. Raises OutputError."""
        options = {key: value for key, value in self.config.items() if key != "_use_default_values"}
        path, unfinished = Path(folder, CONFIG_NAME), Path(folder, f".{CONFIG_NAME}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(options, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise OutputError(f"{path} can't be written ({error.strerror}); choose a folder that can.") from error

    def _no_eta(self, eta: float) -> None:
        if eta != 0:
            raise OptionError(
                f"eta {eta} is only for DDIM and its kin, and {type(self).__name__} has none; leave it at 0."
            )


def said_in(config: Mapping[str, Any] | Scheduler) -> dict[str, Any]:
    """The options that a config says, leaving out defaults of its class, private keys and what is retired.

    An option that nobody knows is said in the log, once: not again where a scheduler's own config carries it on.
    Raises ConfigError for what is no mapping.
    """
    source = config.config if isinstance(config, Scheduler) else config
    if not isinstance(source, Mapping):
        raise ConfigError(
            f"a scheduler config must be a mapping or a scheduler, not {type(source).__name__}; for a folder use from_pretrained."
        )
    defaulted = {*(source.get("_use_default_values") or ()), *RETIRED_OPTIONS}
    said = {key: value for key, value in source.items() if not key.startswith("_") and key not in defaulted}
    if source.get("predict_epsilon") is False:
        said.setdefault("prediction_type", "sample")
    if said.get("prediction_type") == OLDER_SAMPLE:
        said["prediction_type"] = "sample"
    unknown = [
        key
        for key, value in said.items()
        if key not in OPTIONS_OF_THE_FIELD | OWN_OPTIONS and value not in (None, False)
    ]
    if unknown and not isinstance(source, SchedulerConfig):
        logger.warning(
            "the scheduler config has options that Sfumato does not know and leaves alone: %s", ", ".join(unknown)
        )
    return said


def _numbers(option: str, values: Iterable[Any]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise OptionError(f"{option} is no list of numbers; give one for each training timestep.") from None


def _plain(value: object) -> object:
    return list(cast("tuple[float, ...]", value)) if isinstance(value, tuple) else value
