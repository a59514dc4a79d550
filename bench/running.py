"""Carries out measures: contenders in turn, each turn in a fresh process with the same number of threads."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.checkpoint import ROOT, Checkpoint, checkpoint
from bench.contenders import CONTENDERS, ENVIRONMENTS, OURS, Contender
from bench.environments import Installed, NotInstalledError, installed, is_ready, last_line
from bench.machine import load, this_machine
from bench.measures import Measure
from bench.processes import Ended, run
from bench.results import Entry, Run
from bench.turns import turns, wanted
from bench.worker import AbsentError, Setting

PREPARING = 3600.0
"""Seconds that a contender may take to prepare its files."""
READ = 16 << 20
"""Bytes."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SILENT = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}


@dataclass(kw_only=True, slots=True)
class Bench:
    """A machine made ready: `threads` for everyone, `cache` for environments and checkpoints, `without` whom not to measure.

    `say` hears how far it is.
    """

    cache: Path
    threads: int
    install: bool = True
    without: frozenset[str] = frozenset()
    say: Callable[[str], None] = print
    _ready: dict[str, Installed | str] = field(default_factory=dict)

    def prepared(self, measure: Measure) -> dict[str, str]:
        """Make everyone in a measure ready, and measure nothing. Returns who can't take part, with the reason."""
        entry, made = self._entry(measure), checkpoint(self.cache)
        for key in measure.contenders:
            self._admit(CONTENDERS[key], made, entry)
        return entry.missing

    def measured(self, measure: Measure) -> Entry:
        """Carry out a measure. Who can't take part is named with the reason."""
        begun, entry, made = time.monotonic(), self._entry(measure), checkpoint(self.cache)
        if measure.reads:
            read_through(made)
        for key in measure.contenders:
            self._admit(CONTENDERS[key], made, entry)
        for turn in turns(measure.pairs, measure.rounds):
            if wanted(turn, measure.pairs, entry.missing):
                figures = self._turn(measure, CONTENDERS[turn.contender], made, entry)
                if figures is not None:
                    entry.runs.append(Run(round=turn.round, pair=turn.pair, contender=turn.contender, figures=figures))
        entry.minutes = round((time.monotonic() - begun) / 60, 2)
        return entry

    def _entry(self, measure: Measure) -> Entry:
        """An entry with nothing in it yet."""
        return Entry(
            measure=measure.name, date=datetime.now().astimezone().isoformat(timespec="minutes"),
            machine=this_machine().told(), load=load(),
            setting={
                "threads": self.threads, "size": measure.size, "repeats": measure.repeats, "rounds": measure.rounds,
                "steps": measure.steps,
            },
        )  # fmt: skip

    def _admit(self, contender: Contender, made: Checkpoint, entry: Entry) -> None:
        """Make a contender ready, or note why it takes no part."""
        if contender.key in self.without:
            entry.missing[contender.key] = "it was left out"
            return
        home = self._home(contender.environment)
        if isinstance(home, str):
            entry.missing[contender.key] = home
            return
        entry.versions[contender.environment] = home.versions
        for preparation in contender.prepares:
            if (self.cache / preparation.made).exists():
                continue
            self.say(f"{contender.title}: {preparation.task}, once")
            try:
                self._played(contender, home, Setting(task=preparation.task), made, PREPARING)
            except AbsentError as why:
                entry.missing[contender.key] = f"{preparation.task}: {why}"
                return
            (self.cache / preparation.made).parent.mkdir(parents=True, exist_ok=True)
            (self.cache / preparation.made).touch()

    def _home(self, name: str) -> Installed | str:
        """An environment, or why there is none."""
        if name not in self._ready:
            if self.install and not is_ready(ENVIRONMENTS[name], self.cache):
                self.say(f"installing the environment of {name}: minutes, and more where something is compiled")
            try:
                self._ready[name] = installed(ENVIRONMENTS[name], self.cache, install=self.install)
            except NotInstalledError as why:
                self._ready[name] = str(why)
        return self._ready[name]

    def _turn(
        self, measure: Measure, contender: Contender, made: Checkpoint, entry: Entry
    ) -> dict[str, Any] | None:  # fmt: skip
        home = self._home(contender.environment)
        assert isinstance(home, Installed)
        setting = Setting(
            task=measure.task, size=measure.size, warm=measure.warm, repeats=measure.repeats, steps=measure.steps,
            requests=measure.requests,
        )  # fmt: skip
        if measure.model == "bundled":
            from sfumato import bundled_model

            setting = setting._replace(folder=str(bundled_model()), prompt="a red apple, 3d style")
        try:
            if measure.command:
                figures = self._commanded(measure, home, made)
            else:
                figures = self._played(contender, home, setting, made, measure.limit)
        except AbsentError as why:
            entry.missing[contender.key] = str(why)
            self.say(f"{measure.name}: {contender.title}: not measured: {why}")
            return None
        shown = {name: one for name, one in figures.items() if isinstance(one, float)}
        self.say(f"{measure.name}: {contender.title}: " + ", ".join(f"{name} {one:.3f}" for name, one in shown.items()))
        return figures

    def _played(
        self, contender: Contender, home: Installed, setting: Setting, made: Checkpoint, limit: float
    ) -> dict[str, Any]:
        """What a contender's player says of a task. Raises AbsentError for one that can't, or that failed."""
        setting = setting._replace(
            variant=contender.variant, threads=self.threads, cache=str(self.cache), file=str(made.file),
            folder=setting.folder or str(made.folder),
        )  # fmt: skip
        command = [home.python, "-m", f"bench.peers.{contender.player}", json.dumps(setting._asdict())]
        ended = run(command, folder=ROOT, environment=self._environment(contender.environment), limit=limit)
        return said(ended)

    def _commanded(self, measure: Measure, home: Installed, made: Checkpoint) -> dict[str, Any]:
        """Run a measure's command, its places filled in. Raises AbsentError where it fails."""
        out = Path(tempfile.mkdtemp(dir=self.cache))
        try:
            command = [word.format(file=made.file, folder=made.folder, out=out) for word in measure.command]
            ended = run([home.python, *command], folder=ROOT, environment=self._environment(OURS), limit=measure.limit)
        finally:
            shutil.rmtree(out)
        if ended.code:
            raise AbsentError(last_line(ended.errors))
        return process_figures(ended)

    def _environment(self, name: str) -> dict[str, str]:
        """The variables of a process: threads, and no path of ours for a peer."""
        variables: Mapping[str, str] = os.environ
        kept = {key: one for key, one in variables.items() if name == OURS or not key.startswith("PYTHON")}
        return {**kept, **SILENT, **dict.fromkeys(THREADS, str(self.threads))}


def read_through(made: Checkpoint) -> None:
    """Read the checkpoint once, so that the system has it in memory and no contender waits for the disk."""
    for path in [made.file, *sorted(made.folder.rglob("*"))]:
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(READ):
                    pass


def said(ended: Ended) -> dict[str, Any]:
    """The figures of a process that has ended. Raises AbsentError for one that failed, or says that it can't."""
    if ended.code:
        raise AbsentError(f"it failed: {last_line(ended.errors)}")
    answer = answer_in(ended.output)
    if answer is None:
        raise AbsentError(f"it ended without an answer: {last_line(ended.errors)}")
    if "absent" in answer:
        raise AbsentError(answer["absent"])
    return {**answer, **process_figures(ended)}


def answer_in(output: str) -> dict[str, Any] | None:
    """The last line of an output that is an answer; a library may have written more after it."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return None


def process_figures(ended: Ended) -> dict[str, Any]:
    """What is known of a process from outside."""
    figures = {"wall": ended.seconds, "rss": ended.rss, "anonymous": ended.anonymous}
    return {name: round(one, 3) for name, one in figures.items() if one is not None}
