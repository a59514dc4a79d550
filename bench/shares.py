"""What share of the machine's measured ceilings a contender reaches."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from bench.comparing import figures
from bench.contenders import CONTENDERS
from bench.results import Entry

INT8 = ("sfumato-int8", "openvino-int8")
"""Contenders that are held to the ceilings of int8."""
WORK = {
    "unet-256": "step 256",
    "unet-512": "step 512",
    "vae-512": "decode 512",
    "text": "encode",
}
"""Measures whose operations are counted, and under which name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A contender's operations a second in a measure, and the share that its seconds need not have exceeded of those it took."""

    measure: str
    contender: str
    gflops: float
    share: float


def ceilings(entries: Mapping[str, Entry]) -> dict[str, float]:
    """GFLOP/s (GB/s of copies) by kind: the median of the processes' best."""
    entry = entries.get("ceilings")
    kinds: dict[str, list[float]] = {}
    for one in entry.runs if entry is not None else []:
        for kind, value in one.figures.items():
            if isinstance(value, int | float) and kind not in ("wall", "rss", "anonymous"):
                kinds.setdefault(kind, []).append(float(value))
    return {kind: median(values) for kind, values in kinds.items()}


def least_seconds(work: Mapping[str, float], rates: Mapping[str, float], precision: str) -> float | None:
    """The seconds that work in GFLOP by kind takes at the ceilings: convolutions at theirs, all else at that of products."""
    convolution, product = rates.get(f"{precision} convolution"), rates.get(f"{precision} matmul")
    if not convolution or not product:
        return None
    return work["convolution"] / convolution + (work["linear"] + work["attention"]) / product


def shares(entries: Mapping[str, Entry]) -> list[Share]:
    """Of every contender in every measure whose operations are counted."""
    rates, counted = ceilings(entries), entries.get("work")
    if counted is None or not counted.runs:
        return []
    found: list[Share] = []
    for measure, name in WORK.items():
        entry, work = entries.get(measure), counted.runs[-1].figures.get(name)
        # In a quick run pictures are smaller than what was counted.
        if entry is None or work is None or (measure != "text" and entry.setting["size"] != int(name.split()[-1])):
            continue
        for contender in CONTENDERS:
            took = figures(entry, contender, "seconds")
            least = least_seconds(work, rates, "int8" if contender in INT8 else "fp32")
            if took is not None and least is not None:
                found.append(
                    Share(
                        measure=measure, contender=contender, gflops=sum(work.values()) / took.median,
                        share=least / took.median,
                    )
                )  # fmt: skip
    return found
