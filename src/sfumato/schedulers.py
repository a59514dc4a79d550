"""diffusers' scheduler names, as values: each names a sampler, a spacing and a noise schedule, and holds no state.

    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)

The fields of a class are the options of the diffusers class of that name, with its defaults, and its `config` reads and writes the
same `scheduler_config.json`. An option that would change the picture and is not honoured raises UnsupportedError.
"""

import json
import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeAlias, cast, get_args

from torch import Tensor

from sfumato.diffusion.conversation import Noise, Sampling
from sfumato.diffusion.noise_schedule import NoiseSchedule, ScheduleKind
from sfumato.diffusion.prediction import PredictionType
from sfumato.diffusion.samplers import find_sampler
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.spacing import Levels, exponential, karras, leading, linspace, sigmas_at, trailing
from sfumato.errors import (
    ConfigError,
    CorruptFileError,
    MissingFileError,
    OptionError,
    ScheduleError,
    UnknownNameError,
    UnsupportedError,
)

TimestepSpacing: TypeAlias = Literal["leading", "trailing", "linspace"]
FinalSigma: TypeAlias = Literal["zero", "sigma_min"]

CONFIG_NAME = "scheduler_config.json"

# Options of the field's other scheduler classes: a config may carry them from class to class, for the one that reads them.
_OPTIONS_ELSEWHERE = frozenset(
    {
        "disable_corrector",
        "lower_order_final",
        "noise_sampler_seed",
        "original_inference_steps",
        "predict_x0",
        "rho",
        "s_churn",
        "s_max",
        "s_min",
        "s_noise",
        "sample_max_value",
        "shift",
        "shift_terminal",
        "sigma_data",
        "sigma_schedule",
        "solver_p",
        "tau_func",
        "timestep_scaling",
        "stochastic_sampling",
        "use_dynamic_shifting",
        "time_shift_type",
        "base_shift",
        "max_shift",
        "base_image_seq_len",
        "max_image_seq_len",
        "invert_sigmas",
    }
)


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

    sampler: ClassVar[str]
    # Options that are known and must keep one of these values, because nothing here acts on another.
    _fixed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "rescale_betas_zero_snr": (False, None),
        "thresholding": (False, None),
        "use_beta_sigmas": (False, None),
    }
    _given: ClassVar[frozenset[str]]
    _foreign: ClassVar[Mapping[str, Any]]

    def __new__(cls, *args: object, **options: object) -> Self:  # noqa: D102
        self = super().__new__(cls)
        # Which options were said: the rest are this class's defaults, and another class made from this config has its own.
        said = frozenset(options) | {field.name for field, _ in zip(fields(cls), args, strict=False)}
        object.__setattr__(self, "_given", said)
        object.__setattr__(self, "_foreign", {})
        return self

    def __post_init__(self) -> None:
        if self.trained_betas is not None:
            object.__setattr__(self, "trained_betas", tuple(float(beta) for beta in self.trained_betas))
        for option, allowed in self._fixed.items():
            if getattr(self, option, allowed[0]) not in allowed:
                raise UnsupportedError(
                    f"{type(self).__name__} does not honour {option}={getattr(self, option)!r}; leave it at {allowed[0]!r}."
                )
        _one_of("prediction type", self.prediction_type, get_args(PredictionType))
        _one_of("timestep spacing", self.timestep_spacing, get_args(TimestepSpacing))
        _ = self.noise_schedule.alphas_cumprod  # betas that make no schedule are said here, not when an image is drawn

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise the network was trained on."""
        return NoiseSchedule(
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            kind=cast(ScheduleKind, self.beta_schedule),
            steps=self.num_train_timesteps,
            trained_betas=cast("tuple[float, ...] | None", self.trained_betas),
        )

    @property
    def spacing(self) -> str:
        """Name of the spacing: leading, trailing, linspace, karras or exponential."""
        return self.timestep_spacing

    def levels(self, steps: int) -> Levels:
        """The levels that a run of so many steps visits. Raises ScheduleError for steps that the noise schedule hasn't."""
        raise NotImplementedError

    def initial_scale(self, levels: Levels) -> float:
        """What standard normal noise is multiplied by to be x at the first level."""
        # Noise of variance 1 is where variance-preserving samplers start; in sigma space that is sqrt(1 + sigma**2).
        return math.sqrt(1 + levels.sigmas[0] ** 2)

    def final_scale(self, levels: Levels) -> float:
        """What x at the last level is multiplied by to be latents."""
        return 1 / math.sqrt(1 + levels.sigmas[-1] ** 2)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:
        """The sampler at work from `x` at the first level; `noise` is drawn from where it needs any. `eta` is DDIM's alone."""
        raise NotImplementedError

    @property
    def config(self) -> SchedulerConfig:
        """All options and `_class_name`, as in a `scheduler_config.json`; options carried for other classes included."""
        options = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        defaulted = sorted(options.keys() - self._given)
        return SchedulerConfig(
            {**self._foreign, **options, "_class_name": type(self).__name__, "_use_default_values": defaulted}
        )

    @property
    def compatibles(self) -> list[type["Scheduler"]]:
        """The classes that can be made from this one's config."""
        return list(SCHEDULERS.values())

    @classmethod
    def from_config(cls, config: "Mapping[str, Any] | Scheduler", **overrides: Any) -> Self:
        """A scheduler of this class with another's options where it has them, and with those given here.

        Raises UnsupportedError for an override that this class does not act on, UnknownNameError for one that no class has,
        ConfigError for a config that is no mapping or has unknown keys.
        """
        source = config.config if isinstance(config, Scheduler) else config
        if not isinstance(source, Mapping):
            raise ConfigError(
                f"a scheduler config must be a mapping or a scheduler, not {type(source).__name__}; for a folder use from_pretrained."
            )
        own = {field.name for field in fields(cls)}
        for option in overrides.keys() - own:
            if option in _known_options():
                raise UnsupportedError(
                    f"{cls.__name__} has no option {option}; it would change nothing, so leave it out."
                )
            raise UnknownNameError(f"option of {cls.__name__}", option, sorted(own))
        defaulted = set(source.get("_use_default_values") or ())
        said = {key: value for key, value in source.items() if not key.startswith("_") and key not in defaulted}
        if unknown := [
            key for key, value in said.items() if key not in _known_options() and value not in (None, False)
        ]:
            raise ConfigError(
                f"the scheduler config has unknown options {', '.join(unknown)}; remove them if the pictures don't depend on them."
            )
        said |= overrides
        scheduler = cls(**{key: value for key, value in said.items() if key in own})
        object.__setattr__(scheduler, "_foreign", {key: value for key, value in said.items() if key not in own})
        return scheduler

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, subfolder: str | None = None, **overrides: Any) -> Self:
        """A scheduler from the `scheduler_config.json` of a folder. Raises MissingFileError, CorruptFileError, and as from_config."""
        path = Path(folder, subfolder or "", CONFIG_NAME)
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"{path} does not exist; give a folder that holds a {CONFIG_NAME}.") from None
        except ValueError as error:
            raise CorruptFileError(f"{path} is not JSON ({error}); get the file again.") from error
        return cls.from_config(config, **overrides)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `scheduler_config.json` into a folder, which is made where it is not there; diffusers reads it."""
        options = {key: value for key, value in self.config.items() if key != "_use_default_values"}
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, CONFIG_NAME).write_text(json.dumps(options, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _spaced(self, steps: int, *, whole: bool) -> tuple[float, ...]:
        steps, last = _whole(steps), self.num_train_timesteps
        match self.timestep_spacing:
            case "leading":
                return leading(last, steps, offset=self.steps_offset)
            case "trailing":
                return trailing(last, steps)
            case "linspace":
                return linspace(last, steps, whole=whole)

    def _no_eta(self, eta: float) -> None:
        if eta != 0:
            raise OptionError(f"eta {eta} is only for DDIM, and {type(self).__name__} has none; leave it at 0.")


@dataclass(frozen=True, kw_only=True)
class DDIMScheduler(Scheduler):
    """DDIM, deterministic at eta = 0. `clip_sample` bounds the denoised latents, which Stable Diffusion's must not be."""

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
        return _strided_levels(self, self._spaced(steps, whole=True), to_zero=self.set_alpha_to_one)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: D102
        if not 0 <= eta <= 1:
            raise OptionError(f"eta {eta} is out of range; give 0 (deterministic) to 1 (as DDPM).")
        clip = self.clip_sample_range if self.clip_sample else None
        return ddim(x, levels.sigmas, eta=eta, noise=noise, targets=levels.targets, clip=clip)


@dataclass(frozen=True, kw_only=True)
class _SigmaScheduler(Scheduler):
    """A scheduler whose steps are taken between sigmas, fractional timesteps and free sigmas included."""

    def initial_scale(self, levels: Levels) -> float:
        # Where the first level is the last of training, x there is taken to be nothing but noise; leading spacing starts lower.
        return levels.sigmas[0] if self.timestep_spacing != "leading" else math.sqrt(1 + levels.sigmas[0] ** 2)

    def final_scale(self, levels: Levels) -> float:  # noqa: ARG002
        return 1.0

    def levels(self, steps: int) -> Levels:
        timesteps = self._spaced(steps, whole=False)
        return Levels(sigmas=(*sigmas_at(self.noise_schedule, timesteps), 0.0), timesteps=timesteps)


@dataclass(frozen=True, kw_only=True)
class _FreeSigmas(_SigmaScheduler):
    """A scheduler that can also space its sigmas by a rule of their own, between two ends."""

    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: bool | None = False
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        _SigmaScheduler.__post_init__(self)
        if self.use_karras_sigmas and self.use_exponential_sigmas:
            raise OptionError("use_karras_sigmas and use_exponential_sigmas can't both be on; choose one.")

    @property
    def spacing(self) -> str:
        if self.use_karras_sigmas:
            return "karras"
        return "exponential" if self.use_exponential_sigmas else self.timestep_spacing

    def levels(self, steps: int) -> Levels:
        spaced = _SigmaScheduler.levels(self, steps)
        if self.spacing == self.timestep_spacing:
            return spaced
        sigmas = self._free_sigmas(spaced.sigmas[0], spaced.sigmas[-2], spaced.steps)
        timesteps = tuple(self.noise_schedule.timestep(sigma) for sigma in sigmas)
        return Levels(sigmas=(*sigmas, 0.0), timesteps=timesteps)

    def _free_sigmas(self, first: float, last: float, steps: int) -> tuple[float, ...]:
        top = first if self.sigma_max is None else self.sigma_max
        bottom = last if self.sigma_min is None else self.sigma_min
        return karras(top, bottom, steps) if self.use_karras_sigmas else exponential(top, bottom, steps)


@dataclass(frozen=True, kw_only=True)
class EulerDiscreteScheduler(_FreeSigmas):
    """Euler's method, deterministic."""

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
        return _ending(_FreeSigmas.levels(self, steps), self, self.final_sigmas_type)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:  # noqa: ARG002, D102
        self._no_eta(eta)
        return euler(x, levels.sigmas)


def _strided_levels(scheduler: Scheduler, timesteps: tuple[float, ...], *, to_zero: bool) -> Levels:
    """Levels whose steps aim a fixed stride of timesteps lower, whatever is visited next: DDIM's and PNDM's."""
    schedule, stride = scheduler.noise_schedule, scheduler.num_train_timesteps // len(timesteps)
    last = 0.0 if to_zero else schedule.sigma(0)
    targets = tuple(last if t < stride else schedule.sigma(t - stride) for t in timesteps)
    return Levels(sigmas=(*sigmas_at(schedule, timesteps), targets[-1]), timesteps=timesteps, targets=targets)


def _ending(levels: Levels, scheduler: Scheduler, final: FinalSigma) -> Levels:
    _one_of("final_sigmas_type", final, get_args(FinalSigma))
    last = 0.0 if final == "zero" else scheduler.noise_schedule.sigma(0)
    return Levels(sigmas=(*levels.sigmas[:-1], last), timesteps=levels.timesteps)


def _one_of(kind: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(kind, str(value), known)


def _whole(steps: object) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise ScheduleError(f"{steps!r} is no number of steps; give a whole number (usual: 20 to 50).")
    return operator.index(cast(Any, steps))


def _plain(value: object) -> object:
    return list(cast("tuple[float, ...]", value)) if isinstance(value, tuple) else value


SCHEDULERS: dict[str, type[Scheduler]] = {kind.__name__: kind for kind in (DDIMScheduler, EulerDiscreteScheduler)}
"""The classes by name."""


def _known_options() -> frozenset[str]:
    return _OPTIONS_ELSEWHERE.union(*({field.name for field in fields(kind)} for kind in SCHEDULERS.values()))


def scheduler_from_config(config: Mapping[str, Any]) -> Scheduler:
    """The scheduler that a config names by `_class_name`. Raises ConfigError without a name, UnknownNameError for an unknown one."""
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise ConfigError(f"the scheduler config names no class; give _class_name, one of {', '.join(SCHEDULERS)}.")
    if name not in SCHEDULERS:
        raise UnknownNameError("scheduler", name, SCHEDULERS)
    return SCHEDULERS[name].from_config(config)


def scheduler_for(*, base: Scheduler, sampler: str | None = None, spacing: str | None = None) -> Scheduler:
    """`base` with another sampler, another spacing or both, on its own noise schedule.

    Raises UnknownNameError for an unknown name, UnsupportedError for a spacing that the sampler's scheduler hasn't.
    """
    kind = type(base)
    options: dict[str, Any] = {}
    if sampler is not None:
        name = find_sampler(sampler).name
        kind = next(kind for kind in SCHEDULERS.values() if kind.sampler == name)
        # Latents aren't bounded to [-1, 1]: a class that clips unless told otherwise must be told, as pipelines do.
        if "clip_sample" not in base.config.keys() - base.config["_use_default_values"]:
            options["clip_sample"] = False
    if spacing is not None:
        free = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}
        _one_of("spacing", spacing, (*get_args(TimestepSpacing), *free))
        options |= dict.fromkeys(free.values(), False)
        options |= {free[spacing]: True} if spacing in free else {"timestep_spacing": spacing}
        if spacing in free and not issubclass(kind, _FreeSigmas):
            able = [able.sampler for able in SCHEDULERS.values() if issubclass(able, _FreeSigmas)]
            raise UnsupportedError(f"{spacing} spacing is not for {kind.sampler}; its samplers are {', '.join(able)}.")
    own = {field.name for field in fields(kind)}
    return kind.from_config(base, **{option: value for option, value in options.items() if option in own})
