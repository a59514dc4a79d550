"""What runs inside a measured process: it reads one task, carries it out, and prints its figures as the last line, in JSON.

It runs in every environment, and imports nothing that would be missed in the time that an import takes.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

Figures = dict[str, Any]
"""Numbers by name, such as "seconds"; a list under "each" holds the single timings that a median is of."""

PROMPT = "a photograph of an astronaut riding a horse"
GUIDANCE = 7.5


class Setting(NamedTuple):
    """A task and all it needs to know. Sizes are pixels; `folder` and `file` are the same checkpoint."""

    task: str
    variant: str = ""
    size: int = 512
    threads: int = 1
    warm: int = 1
    repeats: int = 3
    steps: int = 1
    requests: int = 1
    prompt: str = PROMPT
    folder: str = ""
    file: str = ""
    cache: str = ""


class AbsentError(Exception):
    """It can't be measured here; the message says why. No failure of the bench."""


Task = Callable[[Setting], Figures]


def serve(tasks: dict[str, Task]) -> None:
    """Carry out the task that the command line names, and print its figures, or why there are none."""
    setting = Setting(**json.loads(sys.argv[1]))
    try:
        answer = tasks.get(setting.task, unknown)(setting)
    except (AbsentError, ModuleNotFoundError) as why:
        answer = {"absent": str(why)}
    print("\n" + json.dumps(answer), flush=True)


def unknown(setting: Setting) -> Figures:
    """The task of those who don't have it."""
    raise AbsentError(f"it has no task {setting.task!r}")


def since_start() -> float:
    """Seconds since the process was started, by the clock that it shares with who started it."""
    return time.monotonic() - float(os.environ["BENCH_STARTED"])


def median(values: list[float]) -> float:
    """The median; without the module of that name, whose import takes as long as some things that are measured."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def timings(seconds: list[float]) -> Figures:
    """Figures of single timings: their median, and each."""
    return {"seconds": median(seconds), "each": [round(one, 4) for one in seconds]}


def timed(work: Callable[[], object], setting: Setting) -> Figures:
    """How long `work` takes, after `warm` times that don't count."""
    for _ in range(setting.warm):
        work()
    seconds: list[float] = []
    for _ in range(setting.repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return timings(seconds)


class Steps:
    """Times a loop's steps from marks that are set at the end of each; the first `warm` steps don't count."""

    def __init__(self, setting: Setting) -> None:
        self._warm = max(1, setting.warm)  # before the first mark there is more than a step
        self.count = self._warm + setting.repeats
        self._marks: list[float] = []

    def mark(self, *_: object) -> None:
        """A step has ended."""
        self._marks.append(time.perf_counter())

    def figures(self) -> Figures:
        """Seconds a step."""
        marks = self._marks[self._warm - 1 :]
        return timings([after - before for before, after in pairwise(marks)])


def imported(work: Callable[[], object]) -> Figures:
    """How long an import takes, in a process that has imported nothing else."""
    start = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - start}
