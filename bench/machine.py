"""What the bench runs on: the processor, its cores and what it can compute with, memory, and how busy it is."""

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "sve")
"""Sets of instructions that decide how fast networks are, as Linux names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine: `cores` are those that this process may use, `memory` is GiB."""

    processor: str
    cores: int
    memory: float
    instructions: tuple[str, ...]
    system: str

    def told(self) -> dict[str, object]:
        """As JSON has it."""
        return {**asdict(self), "instructions": list(self.instructions)}


def this_machine() -> Machine:
    """The machine that this runs on."""
    lines = _lines("/proc/cpuinfo")
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    return Machine(
        processor=lines.get("model name") or platform.processor() or platform.machine(),
        cores=cores(),
        memory=round(_memory() / 2**30, 1),
        instructions=tuple(one for one in INSTRUCTIONS if one in flags),
        system=f"{platform.system()} {platform.machine()}",
    )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(seconds: float = 1.0) -> float:
    """How many cores others keep busy, watched for so long while the bench itself waits; the average of the last minute would count it too."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if before is None or after is None:
        return round(os.getloadavg()[0], 2)
    return busy(before, after, os.cpu_count() or 1)


def busy(before: tuple[int, int], after: tuple[int, int], count: int) -> float:
    """Busy cores of so many, between two readings of all ticks and the idle ones."""
    total, idle = after[0] - before[0], after[1] - before[1]
    return round(count * (total - idle) / total, 2) if total > 0 else 0.0


def _ticks() -> tuple[int, int] | None:
    """Ticks of all cores since the machine was started, and those in which they had nothing to do; None where the system doesn't tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, idle, waiting, *further = map(int, path.read_text().splitlines()[0].split()[1:9])
    return user + nice + system + idle + waiting + sum(further), idle + waiting


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _lines(path: str) -> dict[str, str]:
    """The first value of each name in a file of `name : value` lines; none where there is no such file."""
    found: dict[str, str] = {}
    if Path(path).exists():
        for line in Path(path).read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found
