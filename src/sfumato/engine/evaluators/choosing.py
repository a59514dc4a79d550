"""Engines by name, and the choice between them by measuring."""

from time import perf_counter
from typing import get_args

import torch

from sfumato.engine.evaluators.compiled import Compiled
from sfumato.engine.evaluators.evaluation import Choice, Evaluator, Prepared
from sfumato.engine.evaluators.graphs import CUDAGraphs
from sfumato.engine.evaluators.openvino import OpenVINO
from sfumato.engine.evaluators.task import Task
from sfumato.errors import EngineError, OptionError, UnknownNameError
from sfumato.recipe import EngineName

KINDS: dict[EngineName, type[Evaluator]] = {"compile": Compiled, "openvino": OpenVINO, "graphs": CUDAGraphs}

NAMES: tuple[str, ...] = (*get_args(EngineName), "auto")
"""What an engine can be asked for by."""

CLEARLY = 0.85
"""The share of eager PyTorch's time from which on another engine is worth bits that are not eager PyTorch's."""

TRIES = 2


def engine_for(name: object) -> Prepared | Choice | None:
    """The engine of that name, None for eager PyTorch. Raises UnknownNameError, OptionError, EngineError for one that is not here."""
    if not isinstance(name, str):
        raise OptionError(f"the engine must be {', '.join(NAMES)}, not {name!r}")
    if name == "eager":
        return None
    if name == "auto":
        return Auto()
    for known, kind in KINDS.items():
        if name == known:
            return Prepared(kind())
    raise UnknownNameError("engine", name, NAMES)


class Auto:
    """Eager PyTorch, unless an engine that this machine has is clearly faster at a call's first question.

    On a processor that is OpenVINO where it is installed, on a CUDA device a CUDA graph. torch.compile is not tried: on a processor it
    compiles for minutes before it can be measured. What was measured holds for that network, and that shape, as long as the choice lives.
    """

    def __init__(self) -> None:
        self._engines: dict[EngineName, Prepared | None] = {}
        self._chosen: dict[object, tuple[Prepared | None, str]] = {}

    def choose(self, task: Task) -> tuple[Prepared | None, str]:
        """The engine for a call that begins with this evaluation, None for eager PyTorch, and why, in words."""
        place = (type(task.network).__name__, getattr(task.network, "config", None), task.key)
        key = repr(place)
        if key not in self._chosen:
            self._chosen[key] = self._measured(task)
        return self._chosen[key]

    def _measured(self, task: Task) -> tuple[Prepared | None, str]:
        name: EngineName = "graphs" if task.inputs[0].device.type == "cuda" else "openvino"
        if name not in self._engines:
            try:
                self._engines[name] = Prepared(KINDS[name]())
            except EngineError:
                self._engines[name] = None
        engine = self._engines[name]
        if engine is None:
            return None, "engine auto: eager, for no other is installed here"
        try:
            engine.answer(task)
        except EngineError as error:
            return None, f"engine auto: eager, for {name} failed: {error}"
        eager, other = seconds(task, None), seconds(task, engine)
        faster = other <= CLEARLY * eager
        why = f"engine auto: {name if faster else 'eager'}, for an evaluation takes {other:.3g} s by {name} and {eager:.3g} s eagerly"
        return (engine if faster else None), why


def seconds(task: Task, engine: Prepared | None) -> float:
    """The least seconds that an evaluation took."""
    times: list[float] = []
    for _ in range(TRIES):
        _finish(task)
        began = perf_counter()
        task.eagerly() if engine is None else engine.answer(task)
        _finish(task)
        times.append(perf_counter() - began)
    return min(times)


def _finish(task: Task) -> None:
    if task.inputs[0].device.type == "cuda":
        torch.cuda.synchronize()
