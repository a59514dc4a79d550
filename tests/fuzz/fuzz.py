"""Opens damaged files by the hundred thousand, and counts how each ends.

    python tests/fuzz/fuzz.py --files 100000 --kinds safetensors archive stream

Each file must open, every byte of its tensors readable, or end in one error of ours that says so in one line; nothing else may happen:
no other exception, no event outside the file (an audit hook watches), no memory beyond a limit, none that takes longer than a few
seconds. Whatever else is a finding: it is printed, kept in --keep, and makes the command fail. A file is made of its kind, the seed and
its number, so each can be made again.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from damage import ALTER, exhaustive, mutated, seeds
from watch import Watch, limited, outcome, warm


class Tally:
    """How files ended."""

    def __init__(self, watch: Watch, keep: Path) -> None:
        self.outcomes: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.findings: list[str] = []
        self.slowest = 0.0
        self._watch = watch
        self._keep = keep

    def open(self, path: Path, data: bytes, name: str) -> None:
        """Open one file, and note what became of it."""
        path.write_bytes(data)
        start = time.process_time()
        how, said = outcome(path, self._watch)
        self.slowest = max(self.slowest, time.process_time() - start)
        if self._watch.events:
            how, said = "FINDING", f"events {self._watch.events}"
        if how == "CheckpointError":
            how, said = "FINDING", f"takes too much memory: {said}"
        self.outcomes[how] += 1
        self.said[f"{how}: {shape_of(said, path)}"] += 1
        if how == "FINDING":
            self.findings.append(f"{name}: {said[:300]}")
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / name).write_bytes(data)


def shape_of(said: str, path: Path) -> str:
    """A message without what differs from file to file, so that like ones are counted together."""
    said = said.replace(str(path), "").split("; download")[0].split("; get the model")[0]
    said = re.sub(r"'[^']*'|\"[^\"]*\"", "…", said)
    said = re.sub(r"(run|call|state of) [\w.?<>-]+", r"\1 …", said)
    return re.sub(r"[-\d][\d,.]*", "N", said).strip(": ")[:100]


def main() -> int:
    """Run; 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="how many of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(ALTER), choices=list(ALTER))
    parser.add_argument("--seed", default="0")
    parser.add_argument(
        "--exhaustive", action="store_true", help="every truncation and bit flip of a small file as well"
    )
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "sfumato-fuzz")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON and no more")
    options = parser.parse_args()

    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    # In memory where there is such a place: on a disk, opening the file anew takes longer than reading it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder) / "model.ckpt"
        watch = Watch()
        warm(Path(folder))
        good = {kind: seeds(kind) for kind in options.kinds}
        limited()
        for kind in options.kinds:
            tally = Tally(watch, options.keep)
            started = time.process_time()
            for number, data in enumerate(good[kind]):
                tally.open(path, data, f"{kind}-good-{number}")
            if tally.outcomes != {"opened": len(good[kind])}:
                tally.findings.append(f"{kind}: good files end as {dict(tally.outcomes)}")
            tally.outcomes.clear()
            if options.exhaustive:
                for number, data in enumerate(
                    exhaustive(min(good[kind], key=lambda file: (len(file) < 200, len(file))))
                ):
                    tally.open(path, data, f"{kind}-exhaustive-{number}")
            for number in range(options.files):
                draw = random.Random(f"{kind} {options.seed} {number}")
                tally.open(path, mutated(kind, good[kind], draw), f"{kind}-{options.seed}-{number}")
            seconds = time.process_time() - started
            report[kind] = {"outcomes": dict(tally.outcomes), "findings": tally.findings, "slowest": round(tally.slowest, 3), "seconds": round(seconds)}  # fmt: skip
            if not options.json:
                print(f"{kind}: {tally.outcomes.total():,} files in {seconds:,.0f} s of processor time, the slowest {tally.slowest:.3f} s")  # fmt: skip
                for how, count in tally.outcomes.most_common():
                    print(f"  {count:8,} {how}")
                for said, count in tally.said.most_common(60):
                    print(f"    {count:8,} {said}")
                for finding in tally.findings[:20]:
                    print(f"  FINDING {finding}")
    if options.json:
        print(json.dumps(report))
    return int(any(kind["findings"] for kind in report.values()))


if __name__ == "__main__":
    assert zlib, "imported here, not while a file is open"
    sys.exit(main())
