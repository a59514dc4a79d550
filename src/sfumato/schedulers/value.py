"""What a scheduler is here: a value that names a sampler, a spacing and a noise schedule, and reads and writes diffusers' configs."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeAlias, cast, get_args

from torch import Tensor

from sfumato.checkpoints.hub import fetch
from sfumato.diffusion.conversation import Noise, Sampling
from sfumato.diffusion.noise_schedule import NoiseSchedule, ScheduleKind
from sfumato.diffusion.prediction import PredictionType
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

TimestepSpacing: TypeAlias = Literal["leading", "trailing", "linspace"]

CONFIG_NAME = "scheduler_config.json"

# Every option that a scheduler class of the field has: a config carries them from class to class, for the one that reads them.
# An option outside this list is a slip of the pen, or newer than this program.
_OPTIONS_OF_THE_FIELD = {
    "algorithm_type", "beta_end", "beta_schedule", "beta_start", "clip_sample", "clip_sample_range",
    "corrector_order", "disable_corrector", "dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type",
    "flow_shift", "interpolation_type", "lambda_min_clipped", "lower_order_final", "num_train_timesteps",
    "original_inference_steps", "predict_x0", "prediction_type", "predictor_order", "rescale_betas_zero_snr", "rho",
    "sample_max_value", "set_alpha_to_one", "shift_terminal", "sigma_data", "sigma_max", "sigma_min",
    "sigma_schedule", "skip_prk_steps", "snr_shift_scale", "solver_order", "solver_p", "solver_type",
    "steps_offset", "tau_func", "thresholding", "time_shift_type", "timestep_scaling", "timestep_spacing",
    "timestep_type", "trained_betas", "use_beta_sigmas", "use_dynamic_shifting", "use_exponential_sigmas",
    "use_flow_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
}  # fmt: skip

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
            object.__setattr__(self, "trained_betas", _numbers("trained_betas", self.trained_betas))
        for option in fields(self):
            _check_kind(option.name, getattr(self, option.name), option.default)
        for option, allowed in self._fixed.items():
            if getattr(self, option, allowed[0]) not in allowed:
                raise UnsupportedError(
                    f"{type(self).__name__} does not honour {option}={getattr(self, option)!r}; leave it at {allowed[0]!r}."
                )
        one_of("prediction type", self.prediction_type, get_args(PredictionType))
        one_of("timestep spacing", self.timestep_spacing, get_args(TimestepSpacing))
        _ = self.noise_schedule.alphas_cumprod  # betas that make no schedule are said here, not when an image is drawn

    def __getattr__(self, name: str) -> NoReturn:
        if name in _STATE_OF_THE_FIELD:
            raise AttributeError(
                f"{type(self).__name__} has no {name}: it is a value and holds no run; see levels(steps) and start(x, levels, noise)."
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

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
        return self.latents_scale(levels.sigmas[-1])

    def latents_scale(self, sigma: float) -> float:
        """What x at `sigma` is multiplied by to be latents as the class of that name in diffusers holds them at that level."""
        return 1 / math.sqrt(1 + sigma**2)

    def start(self, x: Tensor, levels: Levels, noise: Noise, eta: float = 0.0) -> Sampling:
        """The sampler at work from `x` at the first level; `noise` is drawn from where it needs any. `eta` is DDIM's alone."""
        raise NotImplementedError

    @property
    def config(self) -> SchedulerConfig:
        """All options and `_class_name`, as in a `scheduler_config.json`; options carried for other classes included."""
        options = {**self._foreign, **{field.name: _plain(getattr(self, field.name)) for field in fields(self)}}
        # JSON has no infinity. Only lambda_min_clipped may be infinite, which is its default and means that nothing is clipped.
        options = {name: value for name, value in options.items() if value not in (math.inf, -math.inf)}
        defaulted = sorted({field.name for field in fields(self)} - self._given)
        return SchedulerConfig({**options, "_class_name": type(self).__name__, "_use_default_values": defaulted})

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            SCHEDULERS[cls.__name__] = cls

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
            if option not in _OPTIONS_OF_THE_FIELD:
                raise UnknownNameError(f"option of {cls.__name__}", option, sorted(own))
            if overrides[option] not in (None, False):
                raise UnsupportedError(f"{cls.__name__} has no option {option}, which would do nothing; leave it out.")
        defaulted = set(source.get("_use_default_values") or ())
        said = {key: value for key, value in source.items() if not key.startswith("_") and key not in defaulted}
        if unknown := [
            key for key, value in said.items() if key not in _OPTIONS_OF_THE_FIELD and value not in (None, False)
        ]:
            raise ConfigError(
                f"the scheduler config has unknown options {', '.join(unknown)}; remove them if the pictures don't depend on them."
            )
        said |= overrides
        scheduler = cls(**{key: value for key, value in said.items() if key in own})
        object.__setattr__(scheduler, "_foreign", {key: value for key, value in said.items() if key not in own})
        return scheduler

    def in_pipeline(self) -> Self:
        """This scheduler as a Stable Diffusion pipeline of diffusers has it from the moment it is built with it: with steps_offset 1
        and without clip_sample. Folders older than these options depend on that; a scheduler put in later is taken as it is.
        """
        config = {**self.config, "steps_offset": 1, "_use_default_values": ()}
        if config.get("clip_sample"):
            config["clip_sample"] = False
        scheduler = type(self).from_config(config)
        object.__setattr__(scheduler, "_given", self._given)  # another class made from it still has its own defaults
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
        folder = Path(name)
        if (
            not folder.exists()
            and isinstance(name, str)
            and name.count("/") == 1
            and not name.startswith((".", "/", "~"))
        ):
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
            raise OptionError(f"eta {eta} is only for DDIM, and {type(self).__name__} has none; leave it at 0.")


def one_of(kind: str, value: object, known: tuple[str, ...]) -> None:
    """Raise UnknownNameError unless `value` is a known name of that kind."""
    if value not in known:
        raise UnknownNameError(kind, str(value), known)


def _check_kind(option: str, value: object, default: object) -> None:
    """Raise OptionError unless a value is of the kind that its option's default shows; an option that may be None shows none."""
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool, NoneType), "True or False"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str,), "a name"),
    }
    if type(default) in kinds:
        kind, expected = kinds[type(default)]
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            raise OptionError(
                f"{option}={value!r} is not {expected}; give {expected}, such as the default {default!r}."
            )


def _numbers(option: str, values: Iterable[Any]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise OptionError(f"{option} is no list of numbers; give one for each training timestep.") from None


def _plain(value: object) -> object:
    return list(cast("tuple[float, ...]", value)) if isinstance(value, tuple) else value
