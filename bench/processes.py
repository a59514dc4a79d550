"""Runs a command as a process of its own, and says how long it took and how much memory it came to hold."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.02
"""Seconds between two looks at a process's memory."""
MIB = 1024
"""KiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A process that has ended: seconds from its start to its end, most MiB resident, most of them anonymous, and what it printed.

    The memory is that of the process itself, not of its children; None where the system doesn't tell.
    """

    code: int
    seconds: float
    rss: float | None
    anonymous: float | None
    output: str
    errors: str


class Watch:
    """Looks at a process's memory until it ends.

    The most resident is the system's own count (VmHWM), which begins anew with the program, as `getrusage`'s does not: that begins
    with what its parent had. The most anonymous is the most that was seen.
    """

    def __init__(self, process: int) -> None:
        self._status = Path(f"/proc/{process}/status")
        self.rss = self.anonymous = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more to see."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            # Gone between two looks: what was seen last stands.
            with contextlib.suppress(OSError):
                seen = memory_of(self._status.read_text())
                self.rss = seen.get("VmHWM", self.rss)
                self.anonymous = max(seen.get("RssAnon", 0.0), self.anonymous or 0.0) or None
            if self._ended.wait(EVERY):
                return


def memory_of(status: str) -> dict[str, float]:
    """MiB by name, of the text of a process's status."""
    lines = (line.split() for line in status.splitlines())
    return {words[0].rstrip(":"): int(words[1]) / MIB for words in lines if len(words) == 3 and words[2] == "kB"}


def run(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None, limit: float | None = None
) -> Ended:
    """Run a command in a folder; it is told when it was started (`BENCH_STARTED`). After `limit` seconds it is ended, with code -9."""
    start = time.monotonic()
    told = {**(os.environ if environment is None else environment), "BENCH_STARTED": repr(start)}
    with subprocess.Popen(
        command, cwd=folder, env=told, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        watch = Watch(process.pid)
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            errors += f"\nit was ended after {limit:.0f} s"
        finally:
            watch.stop()
    return Ended(
        code=process.returncode, seconds=time.monotonic() - start, rss=watch.rss, anonymous=watch.anonymous,
        output=output, errors=errors,
    )  # fmt: skip
