"""The seam between what is computed and what computes it: engines, and one call's use of one.

Whatever an engine can't do is evaluated eagerly, and said. What it has made ready is compared with eager PyTorch at its first use, for every
network and shape, so that a library's mistake costs time and not the picture.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import RLock
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sfumato.engine.evaluators.task import Task, state_of, why_eager
from sfumato.engine.health import is_finite
from sfumato.errors import EngineError
from sfumato.recipe import EngineName

Ready: TypeAlias = Callable[[Sequence[Tensor]], Tensor]
"""An evaluation that was made ready: tensors of its shapes in, the answer out."""

TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
"""By how much of its largest number an answer may differ from eager PyTorch's before the engine is taken to be wrong."""

KEPT = 4
"""Shapes that an engine keeps ready for a network: guidance asks for two, and a second pass for two more."""


class Evaluator(Protocol):
    """An engine: a way to evaluate networks that gives eager PyTorch's numbers, to rounding."""

    @property
    def name(self) -> EngineName:
        """Its name, in recipes and options."""
        ...

    def prepare(self, task: Task) -> Ready:
        """Make evaluations like this one ready. Holds no network. Raises EngineError, or what its library raises, where it can't."""
        ...


class Prepared:
    """What one engine has made ready, by network and shape, and what it could not."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._states: WeakKeyDictionary[nn.Module, Hashable] = WeakKeyDictionary()
        self._ready: WeakKeyDictionary[nn.Module, OrderedDict[Hashable, Ready | EngineError]] = WeakKeyDictionary()
        self._lock = RLock()

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return self.evaluator.name

    def answer(self, task: Task) -> Tensor:
        """The engine's answer. Raises EngineError where there is none, or it was wrong at its first use."""
        with self._lock:
            state = state_of(task.network)
            if self._states.get(task.network) != state:
                self._states[task.network], self._ready[task.network] = state, OrderedDict()
            ready = self._ready[task.network]
            known, answer = ready.get(task.key), None
            if known is None:
                known, answer = self._made_ready(task)
                ready[task.key] = known
            ready.move_to_end(task.key)
            while len(ready) > KEPT:
                ready.popitem(last=False)
            if isinstance(known, EngineError):
                raise known.with_traceback(None)
            return known(task.inputs) if answer is None else answer

    def _made_ready(self, task: Task) -> tuple[Ready | EngineError, Tensor | None]:
        """What answers such tasks, with its first answer, which is as eager PyTorch's; or why nothing does."""
        try:
            ready = self.evaluator.prepare(task)
            answer = ready(task.inputs)
        except EngineError as error:
            return error, None
        except Exception as error:  # a compiler may raise anything, and the picture can still be made
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return EngineError(f"{type(error).__name__}: {reason.rstrip('.')}"), None
        expected = task.eagerly()
        worst = difference(answer, expected)
        if is_finite(expected) and not worst <= TOLERANCES.get(expected.dtype, 1e-3):
            why = f"its answer differed from eager PyTorch's by {worst:.2g} of the largest number"
            return EngineError(why), None
        return ready, answer


def difference(answer: Tensor, expected: Tensor) -> float:
    """The largest difference between two answers, as a share of the largest number in the second; infinite for other shapes."""
    if answer.shape != expected.shape:
        return float("inf")
    worst = (answer.double() - expected.double()).abs().max()
    return float(worst / expected.double().abs().max().clamp(min=1e-12))


class Choice(Protocol):
    """What decides between engines once it has seen a question."""

    def choose(self, task: Task) -> tuple[Prepared | None, str]:
        """The engine for a call that begins with this evaluation, None for eager PyTorch, and why, in words."""
        ...


class Evaluation:
    """One call's evaluations by one engine, all of them; what was evaluated eagerly instead is in its `notes`.

    `engine` is None for eager PyTorch. A choice is made at the first evaluation that leaves one, and holds for the call.
    """

    def __init__(self, engine: Prepared | Choice | None = None) -> None:
        self._engine = engine
        self._notes: dict[str, None] = {}

    @property
    def name(self) -> EngineName:
        """The engine that evaluates: what a recipe says."""
        return self._engine.name if isinstance(self._engine, Prepared) else "eager"

    @property
    def notes(self) -> list[str]:
        """What has to be said of the engine, each once."""
        return list(self._notes)

    def __call__(self, task: Task) -> Tensor:
        """The answer. Raises what PyTorch raises."""
        if self._engine is None:
            return task.eagerly()
        if (reason := why_eager(task)) is not None:
            if isinstance(self._engine, Prepared):
                self._notes[f"engine {self.name}: evaluated eagerly where there was {reason}, which it can't do"] = None
            return task.eagerly()
        if not isinstance(self._engine, Prepared):
            self._engine, why = self._engine.choose(task)
            self._notes[why] = None
            if self._engine is None:
                return task.eagerly()
        try:
            return self._engine.answer(task)
        except EngineError as error:
            what = type(task.network).__name__
            self._notes[f"engine {self.name}: the {what} was evaluated eagerly instead, because {error}"] = None
            return task.eagerly()
