"""What was measured, kept as JSON: a measure that runs again replaces its own results and leaves the others."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass(kw_only=True, slots=True)
class Run:
    """One turn: what the contender said, and `wall` seconds, `rss` and `anonymous` MiB of its process."""

    round: int
    pair: int
    contender: str
    figures: dict[str, Any]


@dataclass(kw_only=True, slots=True)
class Entry:
    """All turns of one measure: when, on what, how, and why who is missing is missing.

    `load` is how many cores others kept busy before it began, `minutes` how long it took.
    """

    measure: str
    date: str
    machine: dict[str, Any]
    load: float
    setting: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0


class Results:
    """Entries by the name of their measure, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("format") != FORMAT:
                raise ValueError(f"{path} holds results of another format; move it away")
            self.entries = {name: _entry(told) for name, told in kept["measures"].items()}

    def put(self, entry: Entry) -> None:
        """Keep an entry, in place of the one before; the file is replaced whole."""
        self.entries[entry.measure] = entry
        told = {"format": FORMAT, "measures": {name: _told(one) for name, one in sorted(self.entries.items())}}
        beside = self.path.with_name(self.path.name + ".tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, self.path)


def _told(entry: Entry) -> dict[str, Any]:
    runs = [{"round": one.round, "pair": one.pair, "contender": one.contender, **one.figures} for one in entry.runs]
    named = ("date", "machine", "load", "setting", "versions", "missing", "minutes")
    return {**{name: getattr(entry, name) for name in named}, "runs": runs, "measure": entry.measure}


def _entry(told: dict[str, Any]) -> Entry:
    runs = [
        Run(round=one.pop("round"), pair=one.pop("pair"), contender=one.pop("contender"), figures=one)
        for one in told.pop("runs")
    ]
    return Entry(**told, runs=runs)
