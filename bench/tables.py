"""What was measured as tables in Markdown: the machine, the bars, every measure, ceilings, requests, and who is missing."""

from collections.abc import Iterable, Mapping, Sequence

from bench.bars import BARS, Judged, judged
from bench.comparing import Spread, figures, ratio
from bench.contenders import CONTENDERS, ENVIRONMENTS
from bench.measures import MEASURES, TOGETHER, Measure
from bench.results import Entry
from bench.shares import INT8, ceilings, shares

SHOWN = {"help": "wall", "memory-2gb": "wall", "memory-1gb": "wall", "memory-smallest": "wall"}
"""The figure that a measure is about where it is not "seconds"."""
FURTHER = {"load": ("… and the end of a step of 64²", "to a first small step")}
"""Another figure in seconds of a measure, and what it is: whether a load was only put off, here."""
APART = ("ceilings", "work", *(f"requests-{count}" for count in TOGETHER))
"""Measures with tables of their own."""
BUSY = 0.2
"""Cores that others kept busy before a measure began, from which on it says so."""


QUICK = "A quick run: pictures have a quarter of the width and height that is named, and no bar is held up to them."


def report(entries: Mapping[str, Entry], picture: str | None = None, *, judge: bool = True) -> str:
    """Everything that is written into the document; `picture` is the plot's address from there. Without `judge`, no bar is held up."""
    if not entries:
        return "Nothing was measured yet."
    sections = [
        machine(entries),
        "### Bars\n\n" + bars(entries) if judge else QUICK,
        "" if picture is None else f"![Seconds of each peer, by Sfumato's]({picture})",
        "### Beside the peers\n\n" + measures(entries),
        ceiling_section(entries),
        requests(entries),
        missing(entries),
    ]
    return "\n\n".join(section for section in sections if section)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under a head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits that count, and no more than are needed."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}".rstrip("0").rstrip(".")


def seconds(spread: Spread | None) -> str:
    """A median with its spread."""
    if spread is None:
        return "–"
    return number(spread.median) + (
        "" if spread.count == 1 else f" ({number(spread.low)}–{number(spread.high)}, n = {spread.count})"
    )


def times(spread: Spread | None) -> str:
    """A ratio with its spread."""
    if spread is None:
        return ""
    return f"{spread.median:.2f}" + ("" if spread.count == 1 else f" ({spread.low:.2f}–{spread.high:.2f})")


def machine(entries: Mapping[str, Entry]) -> str:
    """What it was measured on, with what, and when. Different machines, or threads, are each named."""
    lines: list[str] = []
    for entry in entries.values():
        told = entry.machine
        line = (
            f"**Machine**: {told['processor']}, {told['cores']} cores ({', '.join(told['instructions'])}), "
            f"{told['memory']:g} GiB, {told['system']}; {entry.setting['threads']} threads for everyone."
        )
        if line not in lines:
            lines.append(line)
    versions: dict[str, set[str]] = {}
    for entry in entries.values():
        for environment, packages in entry.versions.items():
            told_of = ENVIRONMENTS[environment].told
            versions.setdefault(environment, set()).add(
                ", ".join(f"{name} {packages[name]}" for name in told_of if name in packages)
            )
    said = "; ".join(" or ".join(sorted(each)) for each in versions.values())
    dates = sorted(entry.date[:10] for entry in entries.values())
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines.append(f"**Versions**: {said}. **Measured** {when}.")
    busy = [f"{name} ({entry.load:g})" for name, entry in entries.items() if entry.load >= BUSY]
    if busy:
        lines.append(f"Others were at work when these began (cores): {', '.join(busy)}.")
    return "\n\n".join(lines)


def bars(entries: Mapping[str, Entry]) -> str:
    """Every bar with what was reached."""
    return table(("what", "bar", "reached", ""), (bar_row(judged(bar, entries)) for bar in BARS))


def bar_row(one: Judged) -> tuple[str, str, str, str]:
    """One bar's line."""
    reached = "" if one.reached is None else times(one.reached) if one.bar.peer else seconds(one.reached)
    verdict = f"not measured: {one.why}" if one.verdict == "not measured" else f"**{one.verdict}**"
    return one.bar.title, one.bar.bar, reached, verdict


def measures(entries: Mapping[str, Entry]) -> str:
    """Every contender in every measure: seconds, ours by theirs, and memory."""
    rows: list[Sequence[str]] = []
    for measure in MEASURES:
        entry = entries.get(measure.name)
        if entry is None or measure.name in APART:
            continue
        ran = {one.contender for one in entry.runs}
        told = [(measure.title, SHOWN.get(measure.name, "seconds"))]
        if measure.name in FURTHER:
            told.append(FURTHER[measure.name])
        for title, figure in told:
            rows += [
                (title, *measure_row(measure, entry, contender, figure))
                for contender in measure.contenders
                if contender in ran
            ]
    head = ("measure", "", "seconds", "Sfumato ×", "peak RSS, MiB", "of it anonymous")
    return table(head, rows) if rows else "Nothing yet."


def measure_row(measure: Measure, entry: Entry, contender: str, figure: str) -> Sequence[str]:
    """One contender's line after its title: the ratio is that of Sfumato's seconds to its."""
    ours = next((pair.ours for pair in measure.pairs if pair.peer == contender), None)
    beside = times(ratio(entry, ours, contender, figure)) if ours is not None else ""
    memory = (figures(entry, contender, name) for name in ("rss", "anonymous"))
    return (
        CONTENDERS[contender].title, seconds(figures(entry, contender, figure)), beside,
        *("–" if one is None else f"{one.median:,.0f}" for one in memory),
    )  # fmt: skip


def ceiling_section(entries: Mapping[str, Entry]) -> str:
    """The machine's ceilings, and who reaches how much of them."""
    rates = ceilings(entries)
    if not rates:
        return ""
    head = ", ".join(f"{kind} {number(rate)} {'GB/s' if kind == 'copy' else 'GFLOP/s'}" for kind, rate in rates.items())
    rows = [
        (
            next(one.title for one in MEASURES if one.name == share.measure), CONTENDERS[share.contender].title,
            number(share.gflops), f"{share.share:.0%}", "int8" if share.contender in INT8 else "float32",
        )
        for share in shares(entries)
    ]  # fmt: skip
    text = f"### Share of the ceilings\n\nMeasured here, the best of each kind: {head}."
    if rows:
        text += " The share is the time that the work would take at the ceilings, by the time that it took.\n\n"
        text += table(("measure", "", "GFLOP/s", "share", "of the ceilings of"), rows)
    return text


def requests(entries: Mapping[str, Entry]) -> str:
    """Throughput with requests in flight."""
    rows: list[Sequence[str]] = []
    for count in TOGETHER:
        entry = entries.get(f"requests-{count}")
        together = figures(entry, "sfumato", "seconds")
        if entry is None or together is None:
            continue
        beside = times(figures(entry, "sfumato", "of one by one"))
        waited = figures(entry, "sfumato", "steps waited")
        rows.append(
            (
                str(count), number(together.median), number(60 * count / together.median), beside,
                "–" if waited is None or count == 1 else f"{waited.high:.0f}",
            )
        )  # fmt: skip
    if not rows:
        return ""
    head = ("in flight", "seconds", "pictures a minute", "× one by one", "steps until the last to arrive has its first")
    return "### Requests in flight\n\n" + table(head, rows)


def missing(entries: Mapping[str, Entry]) -> str:
    """Who was not measured, and why."""
    reasons: dict[str, list[str]] = {}
    for name, entry in entries.items():
        for contender, why in entry.missing.items():
            reasons.setdefault(f"{CONTENDERS[contender].title}: {why}", []).append(name)
    lines = [f"- {reason} ({', '.join(names)})" for reason, names in reasons.items()]
    return "### Not measured\n\n" + "\n".join(lines) if lines else ""
