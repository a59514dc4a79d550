"""Run configs: TOML files read into frozen dataclasses, strictly."""

import dataclasses
import math
import tomllib
import types
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sfumato.errors import SfumatoError, TrainingError

C = TypeVar("C")

Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["float32", "bfloat16"]


def expect(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise TrainingError, in the one form that checks of a config have, unless the condition holds."""
    if not condition:
        raise TrainingError(f"{name} is {value!r}, expected {expected}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    """Warm up over `warmup` images, hold `peak`, and decay linearly to zero over the last `decay` share of the run.

    Holding most of the run lets its length be changed after it has begun. Source: Hu et al. 2024, arXiv:2404.06395, section 4.
    """

    peak: float = 1e-3
    warmup: int = 2000
    decay: float = 0.3

    def __post_init__(self) -> None:
        expect(0 < self.peak < math.inf, "peak", self.peak, "a finite number above 0")
        expect(self.warmup >= 0, "warmup", self.warmup, "at least 0")
        expect(0 <= self.decay <= 1, "decay", self.decay, "a share from 0 to 1")

    def at(self, images: int, share: float) -> float:
        """The rate after so many images, with that share of the run behind it."""
        rising = min(1.0, images / self.warmup) if self.warmup else 1.0
        left = (1 - share) / self.decay if self.decay else 1.0
        return self.peak * max(0.0, min(rising, left))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """What every training run says: its length and pace, and how often it logs, saves and shows.

    `images` is the planned total. `minutes`, unless 0, is the time that the steps of all starts together may take: the run ends when
    either is spent, and what follows its course (the rate's decay) follows whichever is further.
    `threads` 0 leaves the number of CPU threads alone; `compile` needs a C++ compiler on a CPU and pays for the autoencoder; `workers`
    are processes that compose scenes, 0 composes them in this one. `log_every`, `save_every` and `show_every` count steps.
    """

    images: int
    batch: int
    minutes: float = 0.0
    seed: int = 0
    device: Device = "cpu"
    precision: Precision = "float32"
    workers: int = 0
    learning_rate: LearningRate = LearningRate()
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    threads: int = 0
    compile: bool = False
    log_every: int = 20
    save_every: int = 200
    show_every: int = 500

    def __post_init__(self) -> None:
        for name in ("images", "batch", "log_every", "save_every", "show_every"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        expect(0 <= self.minutes < math.inf, "minutes", self.minutes, "a finite number, 0 for no limit")
        expect(0 <= self.seed < 2**63, "seed", self.seed, "0 to 2**63 - 1")
        expect(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a finite number of at least 0")
        expect(0 < self.gradient_clip < math.inf, "gradient_clip", self.gradient_clip, "a finite number above 0")
        for name in ("threads", "workers"):
            expect(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return -(-self.images // self.batch)


def config_path(name: str | Path) -> Path:
    """The path of a config: a file, or the bare name of one in the package ("vae-64").

    Raises TrainingError when there is none.
    """
    path = Path(name)
    packaged = Path(str(files("sfumato.training") / "configs"))
    is_bare = path.name == str(name)
    for candidate in (path, packaged / f"{path.name}.toml") if is_bare else (path,):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(p.stem for p in packaged.glob("*.toml")))
    raise TrainingError(f"no run config at {name}; give a TOML file or one of the package's own: {known}.")


def read_config(path: str | Path, kind: type[C]) -> C:
    """Read a TOML run config as the dataclass `kind`.

    Raises TrainingError for a file that is missing or not TOML, and for unknown, missing or mistyped keys and values out of range, naming them.
    """
    path = config_path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} can't be read as TOML: {error}.") from error
    return parse(table, kind, str(path))


def parse(table: Mapping[str, Any], kind: type[C], where: str) -> C:
    """Turn a mapping into the dataclass `kind`; `where` names it in messages. Raises TrainingError as `read_config` does."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    if unknown := sorted(set(table) - set(fields)):
        raise TrainingError(f"{where} has unknown keys {', '.join(unknown)}; known: {', '.join(fields)}.")
    required = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(table)):
        raise TrainingError(f"{where} lacks {', '.join(missing)}; add them.")
    values = {key: _value(value, hints[key], f"{where}: {key}") for key, value in table.items()}
    try:
        return kind(**values)
    except SfumatoError as error:  # a value out of its range
        raise TrainingError(f"{where}: {error}") from error


def _value(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return parse(value, hint, where)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return _value(value, inner[0], where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(item, get_args(hint)[0], where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is Literal:
        if value not in get_args(hint):
            raise TrainingError(f"{where} is {value!r}, expected one of {', '.join(map(str, get_args(hint)))}.")
        return value
    if not isinstance(hint, type) or type(value) is not hint:
        expected = getattr(hint, "__name__", str(hint))
        raise TrainingError(f"{where} is {value!r}, expected {expected}.")
    return value
