"""The bars that Sfumato is held to on two cores, and whether what was measured meets them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.comparing import Spread, figures, ratio
from bench.contenders import CONTENDERS
from bench.results import Entry

Verdict = Literal["met", "missed", "not measured"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A figure of ours, or its ratio to a peer's, and the most that it may be.

    `measure` is None for what no measure here takes; `why` then says why. Two digits behind the point count.
    """

    title: str
    measure: str | None
    figure: str = "seconds"
    ours: str = "sfumato"
    peer: str | None = None
    most: float
    unit: str = ""
    why: str = ""

    @property
    def bar(self) -> str:
        """The bar in words."""
        beside = f" × {CONTENDERS[self.peer].title}" if self.peer else self.unit
        return f"≤ {self.most:g}{beside}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A bar with what was reached, and if nothing was measured, why."""

    bar: Bar
    verdict: Verdict
    reached: Spread | None = None
    why: str = ""


def steps(size: int) -> tuple[Bar, ...]:
    """The bars of a CFG step of one size."""
    measure = f"unet-{size}"
    return (
        Bar(title=f"float32 CFG step, {size}²", measure=measure, peer="diffusers", most=0.75),
        Bar(title=f"float32 CFG step, {size}²", measure=measure, peer="openvino", most=0.95),
        Bar(title=f"int8 CFG step, {size}²", measure=measure, ours="sfumato-int8", peer="openvino-int8", most=0.85),
    )


MEMORY = "peak anonymous memory, SD 1.5 512²,"
BARS: tuple[Bar, ...] = (
    *steps(512),
    *steps(256),
    Bar(title="VAE decode 512², float32", measure="vae-512", peer="diffusers", most=0.7),
    Bar(title="import of the pipeline", measure="import", peer="torch", most=1.15),
    Bar(title="`sfumato --help`", measure="help", figure="wall", most=0.3, unit=" s"),
    Bar(title="process start to ready to step, 2.1 GB fp16 file", measure="load", peer="diffusers", most=0.4),
    Bar(title="peak RSS, SD 1.5 512², default", measure="picture-512", figure="rss", peer="diffusers", most=0.6),
    Bar(title=f"{MEMORY} `--memory 2GB`", measure="memory-2gb", figure="anonymous", most=2e9 // 2**20, unit=" MiB"),
    Bar(title=f"{MEMORY} `--memory 1GB`", measure="memory-1gb", figure="anonymous", most=1e9 // 2**20, unit=" MiB"),
    Bar(title=f"{MEMORY} smallest", measure="memory-smallest", figure="anonymous", most=6e8 // 2**20, unit=" MiB"),
    Bar(title="eight requests together", measure="requests-8", figure="of one by one", most=1.0, unit=" × one by one"),
    Bar(title="steps until the last to arrive has its first", measure="requests-8", figure="steps waited", most=2),
    Bar(title="eight requests together, on a GPU", measure=None, most=0.4, unit=" × one by one", why="the bench runs on the CPU"),
)  # fmt: skip


def judged(bar: Bar, entries: Mapping[str, Entry]) -> Judged:
    """A bar held against what was measured."""
    entry = entries.get(bar.measure) if bar.measure is not None else None
    if entry is None:
        return Judged(bar=bar, verdict="not measured", why=bar.why or "not run yet")
    alone = bar.peer is None
    reached = figures(entry, bar.ours, bar.figure) if alone else ratio(entry, bar.ours, bar.peer, bar.figure)
    if reached is None:
        reasons = [
            f"{CONTENDERS[one].title}: {entry.missing[one]}" for one in (bar.ours, bar.peer) if one in entry.missing
        ]
        return Judged(bar=bar, verdict="not measured", why="; ".join(reasons) or f"there is no figure {bar.figure!r}")
    return Judged(bar=bar, verdict="met" if round(reached.median, 2) <= bar.most else "missed", reached=reached)
