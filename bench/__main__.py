"""The command: measure, keep what was found, and write it up."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from bench.bars import BARS, judged
from bench.checkpoint import ROOT
from bench.contenders import CONTENDERS
from bench.document import write
from bench.machine import cores
from bench.measures import chosen, quick
from bench.plot import plot
from bench.results import Results
from bench.running import Bench
from bench.tables import bar_row, report, table

DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "performance.svg"
RESULTS = ROOT / "bench" / "results.json"


def main(arguments: list[str] | None = None) -> int:
    """Carry out the command line; 2 for one that can't be carried out."""
    asked = parser().parse_args(arguments)
    try:
        measures = chosen(asked.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.list:
        for measure in measures:
            who = ", ".join(CONTENDERS[one].title for one in measure.contenders)
            print(f"{measure.name:<16}{measure.minutes:>6.1f} min  {measure.title}: {who}")
        print(f"{'':<16}{sum(one.minutes for one in measures):>6.1f} min in all")
        return 0
    cache = asked.cache.expanduser().absolute()
    results = Results(asked.results or (cache / "quick.json" if asked.quick else RESULTS))
    if not asked.table:
        bench = Bench(
            cache=cache, threads=asked.threads, install=not asked.no_install, without=frozenset(asked.without),
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
        if asked.prepare:
            for measure in measures:
                for contender, why in bench.prepared(measure).items():
                    print(f"{measure.name}: {CONTENDERS[contender].title}: not ready: {why}")
            return 0
        for measure in map(quick, measures) if asked.quick else measures:
            if asked.rounds:
                measure = replace(measure, rounds=asked.rounds)
            print(f"— {measure.name}, about {measure.minutes:.1f} min", flush=True)
            results.put(bench.measured(measure))
    if asked.quick:
        print("\n" + report(results.entries, judge=False))
        return 0
    drawing = plot(results.entries)
    if drawing is not None:
        PICTURE.write_text(drawing, encoding="utf-8")
    write(DOCUMENT, report(results.entries, None if drawing is None else f"images/{PICTURE.name}"))
    print("\n" + table(("what", "bar", "reached", ""), (bar_row(judged(bar, results.entries)) for bar in BARS)))
    print(f"\nwritten into {DOCUMENT.relative_to(ROOT)}; the numbers are in {results.path}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    described = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    described.add_argument(
        "--only", nargs="+", default=[], metavar="MEASURE",
        help="these measures, or all that begin so (unet is unet-256 and unet-512); the results of others stay",
    )  # fmt: skip
    described.add_argument(
        "--without", nargs="+", default=[], metavar="WHO", choices=list(CONTENDERS), help="leave out"
    )
    described.add_argument(
        "--quick", action="store_true", help="small pictures, once: does it work? Nothing is written up"
    )
    described.add_argument("--table", action="store_true", help="measure nothing, write up what there is")
    described.add_argument(
        "--prepare", action="store_true", help="make environments, checkpoint and conversions, measure nothing"
    )
    described.add_argument("--list", action="store_true", help="name the measures, with about how long they take")
    described.add_argument("--threads", type=int, default=cores(), help="of every process (default: %(default)s)")
    described.add_argument(
        "--rounds", type=int, metavar="N", help="turns of each contender (default: the measure's own)"
    )
    described.add_argument("--no-install", action="store_true", help="make no environments; who has none is left out")
    described.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("SFUMATO_BENCH_CACHE", ROOT / ".bench")), metavar="FOLDER",
        help="environments, checkpoints and converted models: 15 GB (default: .bench, or SFUMATO_BENCH_CACHE)",
    )  # fmt: skip
    described.add_argument("--results", type=Path, metavar="FILE", help="the numbers (default: bench/results.json)")
    return described


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the measures that were finished are kept, and --table writes them up", file=sys.stderr)
        sys.exit(130)
