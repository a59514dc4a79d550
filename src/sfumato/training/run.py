"""A run's folder: its checkpoints, its loss curve, and picking up where it was killed.

Randomness is no state: every step draws from a generator made of the run's seed and the step's number (`step_generator`), so weights,
optimizer and the step's number are all there is to save, and a run that was killed ends with the very weights of one that was not.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.errors import OutputError, TrainingError
from sfumato.files import check_writable
from sfumato.training.config import RunConfig
from sfumato.training.storage import load_tensors, save_tensors

_CHECKPOINT = "checkpoint.pt"


def step_generator(seed: int, step: int, purpose: str = "") -> torch.Generator:
    """The CPU generator of one step of a run, the same whenever and wherever the step is taken."""
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shuffled(count: int, first: int, length: int, seed: int) -> torch.Tensor:
    """Positions `first` to `first + length` of an endless sequence that shuffles `count` items anew for every pass."""
    positions = range(first, first + length)
    passes = {
        p: torch.randperm(count, generator=step_generator(seed, p, "pass")) for p in {i // count for i in positions}
    }
    return torch.stack([passes[i // count][i % count] for i in positions])


def plain_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights as they are loaded again: on the CPU, in the default memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


class RunFolder:
    """The folder of one run of training.

    `inputs` are hashes of what the run learns from besides its config (dataset, autoencoder …), by name: a checkpoint made with others is
    refused, one that recorded none is taken as it is. The folder is made by `begin`; to read a run, it is left as it is.
    """

    def __init__(self, path: Path | str, config: RunConfig, inputs: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self.config = config
        self.inputs = dict(inputs or {})
        self._started = time.monotonic()
        self._first_step = 0

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.path / _CHECKPOINT

    def begin(self) -> dict[str, Any] | None:
        """Make the folder, see that it can be written to, and return the state to go on from, as `load` does.

        Raises TrainingError as `load` does, before anything is made, and OutputError.
        """
        state = self.load()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the run folder {self.path} can't be made: {error.strerror or error}.") from error
        check_writable(self.checkpoint, overwrite=True)
        return state

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
        for what, now in (("config", _comparable(self.config)), ("inputs", self.inputs)):
            then = recorded if isinstance(recorded := state.get(what, now), dict) else {}
            # Of inputs, those that were recorded: an older checkpoint names none or fewer.
            names = then.keys() & now.keys() if what == "inputs" else then.keys() | now.keys()
            if differing := sorted(name for name in names if then.get(name) != now.get(name)):
                raise TrainingError(
                    f"{self.path} holds a run whose {what} differs in {', '.join(differing)}; choose another folder or the same {what}."
                )
        self._first_step = state["step"]
        return state

    def save(self, step: int, **state: Any) -> None:
        """Write the checkpoint of `step`, whole or not at all. Raises OutputError when it can't be written."""
        recorded = {"config": _comparable(self.config), "inputs": self.inputs, "step": step}
        save_tensors(self.checkpoint, {**recorded, **state})

    def log(self, step: int, **values: float) -> str:
        """Append a line to `log.jsonl` (step, images, seconds since this start, images a second, values); returns it for people.

        Raises OutputError when it can't be written.
        """
        seconds = time.monotonic() - self._started
        images = step * self.config.batch
        rate = (step - self._first_step) * self.config.batch / max(seconds, 1e-9)
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
        shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        return f"step {step}/{self.config.steps}  {rate:.1f} images/s  {left / 60:.1f} min left  {shown}"


def _comparable(config: RunConfig) -> dict[str, Any]:
    """The config as plain values, less what may change between two starts without changing what is trained."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return {
        k: v
        for k, v in plain.items()
        if k not in {"images", "threads", "compile", "log_every", "save_every", "show_every"}
    }
