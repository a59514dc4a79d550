"""A run's folder: its checkpoints, its loss curve, and picking up where it was killed.

Randomness is no state: every step draws from a generator made of the run's seed and the step's number (`step_generator`), so weights,
optimizer and the step's number are all there is to save, and a run that was killed ends with the very weights of one that was not. (A run
that ends by the clock takes as many steps as there is time for: what follows its course is then as good, not the same.)
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.optim import Optimizer

from sfumato.errors import OutputError, SfumatoError, TrainingError
from sfumato.files import check_writable
from sfumato.training.average import MovingAverage
from sfumato.training.config import RunConfig, parse
from sfumato.training.storage import load_tensors, save_tensors, taking_in

_CHECKPOINT = "checkpoint.pt"
_LOCK = "run.lock"
_ASKED = 0.5  # seconds


def step_generator(seed: int, step: int, purpose: str = "", device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one step of a run, the same whenever the step is taken; on a CPU, wherever."""
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shuffled(count: int, first: int, length: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Positions `first` to `first + length` of an endless sequence that shuffles `count` items anew for every pass, the same on each device."""
    passes = range(first // count, (first + length - 1) // count + 1)
    start = first - passes.start * count
    return torch.cat([_pass(count, number, seed, torch.device(device)) for number in passes])[start : start + length]


# A whole pass lies on the device: rows that came there at each step would have the processor wait for the step before.
@functools.lru_cache(maxsize=4)
def _pass(count: int, number: int, seed: int, device: torch.device) -> torch.Tensor:
    return torch.randperm(count, generator=step_generator(seed, number, "pass")).to(device)


def plain_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights as they are loaded again: on the CPU, in the default memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def restore(
    state: Mapping[str, Any],
    checkpoint: Path,
    module: nn.Module,
    optimizer: Optimizer,
    average: MovingAverage | None = None,
) -> int:
    """Bring what learns to where the state of a checkpoint has it; the step to go on with. Raises TrainingError where it does not fit."""
    with taking_in(checkpoint):
        module.load_state_dict(state["weights"])
        if average is not None:
            average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def is_under_way(run: Path | str) -> bool:
    """Whether another process trains in a run's folder at the moment; False for a folder that can't be looked into."""
    lock = Path(run) / _LOCK
    try:
        if lock.exists():
            with FileLock(lock).acquire(blocking=False):
                return False
    except Timeout:
        return True
    except OSError:
        return False
    return False


class RunFolder:
    """The folder of one run of training.

    `inputs` are hashes of what the run learns from besides its config (dataset, autoencoder …), by name: a checkpoint made with others is
    refused, one that recorded none is taken as it is. The folder is made by `begin`, and is from then to `end` this process's alone: two that
    train in one folder would mix their checkpoints. To read a run, it is left as it is. `until` is the time (as `time.time` tells it) when the
    run's steps end, whatever the config says of minutes.
    """

    def __init__(
        self, path: Path | str, config: RunConfig, inputs: Mapping[str, str] | None = None, until: float | None = None
    ) -> None:
        self.path = Path(path)
        self.config = config
        self.until = until
        # Seconds that the steps of all starts may take, 0 for no limit.
        self._seconds = 60 * config.minutes
        self.inputs = dict(inputs or {})
        self._recorded: Mapping[str, str] = {}
        self._lock = FileLock(self.path / _LOCK)
        # Seconds that earlier starts spent on steps, when this one began with its own, and what the last line was told.
        self._before = 0.0
        self._started: float | None = None
        self._last_line = (0, 0.0, 0.0)

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.path / _CHECKPOINT

    def begin(self) -> dict[str, Any] | None:
        """Make the folder, see that it can be written to, lock it, and return the state to go on from, as `load` does.

        Raises TrainingError as `load` does, before anything is made, and when another process trains in the folder; and OutputError.
        """
        state = self.load()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the run folder {self.path} can't be made: {error.strerror or error}.") from error
        check_writable(self.checkpoint, overwrite=True)
        try:
            # The system lets go of it when the process ends, however it ends. Who only asks whether it is held holds it for an instant.
            self._lock.acquire(timeout=_ASKED)
        except Timeout as error:
            raise TrainingError(
                f"another process trains in {self.path}; wait for it, stop it, or choose another folder."
            ) from error
        return state

    @contextmanager
    def begun(self) -> Iterator[dict[str, Any] | None]:
        """A block in which the folder is this process's: `begin` before it, with its state and errors, `end` after it."""
        state = self.begin()
        try:
            yield state
        finally:
            self.end()

    def end(self) -> None:
        """Let others begin in the folder."""
        self._lock.release()

    def load(self, *, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The last checkpoint's state (`step` and what `save` was given), or None at the start of a run.

        Raises TrainingError when it is damaged, or of a run with another config (its length may differ: a run can be made longer or
        shorter) or other inputs.
        """
        if not self.checkpoint.exists():
            return None
        state = load_tensors(
            self.checkpoint,
            frozenset({"config", "step", "weights", "optimizer"}),
            cure="delete it to begin the run again.",
            device=device,
        )
        _expect_same(self.path, "config", _as_of_now(state["config"], self.config), _comparable(self.config))
        recorded = state.get("inputs", {})
        self._recorded = recorded if isinstance(recorded, dict) else {}
        self.bind(self.inputs)
        self._before = float(state.get("seconds", 0.0))
        return state

    def bind(self, inputs: Mapping[str, str]) -> None:
        """Hold the run to more inputs, that are known only after `begin`.

        Raises TrainingError when the checkpoint was made with others.
        """
        # Those that were recorded: an older checkpoint names none or fewer.
        known = self._recorded.keys() & inputs.keys()
        _expect_same(self.path, "inputs", {n: self._recorded[n] for n in known}, {n: inputs[n] for n in known})
        self.inputs.update(inputs)

    def start(self, step: int) -> None:
        """Begin to count the time that steps take, from `step` on. Raises TrainingError when it is later than `until` already."""
        self._started = time.monotonic()
        if self.until is not None:
            left = self.until - time.time()
            if left <= 0:
                raise TrainingError(
                    f"the run was to end {-left:.0f} seconds ago, and nothing is trained: give a later time."
                )
            self._seconds = self._before + left
        self._last_line = (step, 0.0, 0.0)

    @property
    def spent(self) -> float:
        """Seconds that steps have taken, those of earlier starts included."""
        return self._before + self._since_start()

    def _since_start(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def share(self, step: int) -> float:
        """The share of the run that is behind it after so many steps, from 0 to 1: of its steps or its time, whichever is further."""
        return min(1.0, max(step / self.config.steps, self.spent / self._seconds if self._seconds else 0.0))

    def save(self, step: int, **state: Any) -> None:
        """Write the checkpoint of `step`, whole or not at all. Raises OutputError when it can't be written."""
        recorded = {"config": _comparable(self.config), "inputs": self.inputs, "step": step, "seconds": self.spent}
        save_tensors(self.checkpoint, {**recorded, **state})

    def log(self, step: int, **values: float) -> str:
        """Append a line to `log.jsonl` (step, images, seconds since this start, images a second lately, values); returns it for people.

        Raises OutputError when it can't be written.
        """
        seconds, images = self._since_start(), step * self.config.batch
        last_step, last_seconds, rate = self._last_line
        if step > last_step:
            rate = (step - last_step) * self.config.batch / max(seconds - last_seconds, 1e-9)
        self._last_line = (step, seconds, rate)
        row: Mapping[str, float] = {
            "step": step,
            "images": images,
            "seconds": seconds,
            "images_per_second": rate,
            **values,
        }
        log = self.path / "log.jsonl"
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
        except OSError as error:
            raise OutputError(
                f"can't write {log}: {error.strerror or error}; the last checkpoint is good: make room and go on."
            ) from error
        left = (self.config.steps - step) * self.config.batch / max(rate, 1e-9)
        if self._seconds:
            left = max(0.0, min(left, self._seconds - self.spent))
        shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        return f"step {step}/{self.config.steps}  {rate:.1f} images/s  {left / 60:.1f} min left  {shown}"


# What may change between two starts without changing what is trained, or is changed on purpose to make a run longer or shorter.
_MAY_CHANGE = frozenset({
    "images", "minutes", "threads", "device", "workers", "compile", "graphs", "log_every", "save_every", "show_every"
})  # fmt: skip


def _comparable(config: RunConfig) -> dict[str, Any]:
    """The config as plain values, less what may change."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return {key: value for key, value in plain.items() if key not in _MAY_CHANGE}


def _as_of_now(recorded: Any, config: RunConfig) -> dict[str, Any]:
    """A recorded config as it would be recorded now: keys that it was written too early to have are at their defaults."""
    if not isinstance(recorded, dict):
        return {}
    given = _without_none(recorded) | {key: getattr(config, key) for key in _MAY_CHANGE if hasattr(config, key)}
    try:
        return _comparable(parse(given, type(config), "the checkpoint"))
    except SfumatoError:  # a config of another kind of run
        return recorded


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}


def _expect_same(path: Path, what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if differing := sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)):
        raise TrainingError(
            f"{path} holds a run whose {what} differs in {', '.join(differing)}; choose another folder or the same {what}."
        )
