"""The engine `compile`: networks through torch.compile, which writes kernels for them and has a compiler translate these.

Every shape is compiled for itself. A kernel for any shape would be slower, and which one a picture got would depend on what was drawn before
it; so its bits would.
"""

import hashlib
import logging
import os
import platform
import shutil
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.engine.evaluators.evaluation import Ready
from sfumato.engine.evaluators.storage import engines_folder
from sfumato.engine.evaluators.task import Task
from sfumato.errors import EngineError, OutputError
from sfumato.files import write_whole
from sfumato.recipe import EngineName

logger = logging.getLogger("sfumato")

SHAPES = 64
"""Shapes and networks that a process compiles before it is said that it has too many."""


class Compiled:
    """torch.compile with inductor. What was compiled is kept for the next process: PyTorch's artefacts, in the engines' folder."""

    name: EngineName = "compile"

    def __init__(self) -> None:
        """Raises EngineError where there is no compiler."""
        check_compiler()

    def prepare(self, task: Task) -> Ready:
        """Compile at the first answer, from the artefacts of an earlier process where there are any."""
        path = artefacts_of(task)
        if path.is_file():
            _load(path)
        library: Any = torch  # the compiler's settings have no types
        compiled = library.compile(task.function, dynamic=False, fullgraph=True)
        network, form = weakref.ref(task.network), task.form
        kept = False

        def answer(inputs: Sequence[Tensor]) -> Tensor:
            nonlocal kept
            limits: dict[str, Any] = {"recompile_limit": SHAPES, "fail_on_recompile_limit_hit": True}
            with library._dynamo.config.patch(**limits):
                made = compiled(network(), form, *inputs)
            if not kept:
                kept = True
                _save(path)
            return made

        return answer


def check_compiler() -> None:
    """Raise EngineError unless there is what torch.compile needs: a C++ compiler, and Triton for a GPU."""
    names = [os.environ.get("CXX"), "g++", "clang++", "c++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise EngineError(
            "the engine 'compile' needs a C++ compiler, and none is on the path; install g++ or clang (CXX names another), "
            "or use the engine 'eager'"
        )


def artefacts_of(task: Task) -> Path:
    """Where the artefacts for a task's network and shapes lie. They hold no weights, so equal networks share them."""
    network = task.network
    layers = [(name, tuple(each.shape), each.stride(), each.dtype) for name, each in network.named_parameters()]
    machine = (torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability())
    what = (type(network).__name__, getattr(network, "config", None), layers, task.key, machine)
    return engines_folder() / "compile" / f"{hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()}.bin"


@cache
def _load(path: Path) -> None:
    """Hand PyTorch the artefacts of an earlier process."""
    try:
        torch.compiler.load_cache_artifacts(path.read_bytes())
    except (OSError, RuntimeError, ValueError) as error:
        logger.info("what was compiled earlier can't be read and is compiled again: %s", error)


def _save(path: Path) -> None:
    """Keep what this process has compiled, if it has compiled anything since."""
    if path.is_file():
        return
    try:
        artefacts = torch.compiler.save_cache_artifacts()
        if artefacts is not None:
            write_whole(path, artefacts[0], overwrite=True)
    except (OutputError, OSError, RuntimeError) as error:
        logger.info("what was compiled is not kept for the next process: %s", error)
