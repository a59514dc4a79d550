"""The peers' environments: made once in the cache, and used again while what is installed into them stays the same."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import Environment

TOLD = """
import importlib.metadata, json, sys
found = {"python": sys.version.split()[0]}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


READY = "ready.json"
"""The file of an environment that holds what was installed into it; written last."""


class NotInstalledError(Exception):
    """An environment that can't be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that is ready: its interpreter, and versions by package."""

    python: str
    versions: dict[str, str]


def installed(environment: Environment, cache: Path, *, install: bool = True) -> Installed:
    """The environment, made if it isn't there and `install` allows it. One without installs is that which runs this.

    Raises NotInstalledError.
    """
    if not environment.installs:
        return Installed(sys.executable, versions(sys.executable, environment.told))
    folder = _folder(environment, cache)
    python = folder / "bin" / "python"
    if not is_ready(environment, cache):
        if not install:
            raise NotInstalledError("it is not installed")
        _make(environment, folder, python)
        (folder / READY).write_text(json.dumps(environment.installs))
    return Installed(str(python), versions(str(python), environment.told))


def is_ready(environment: Environment, cache: Path) -> bool:
    """Whether the environment is there, with what is to be installed into it now."""
    ready = _folder(environment, cache) / READY
    return not environment.installs or (ready.exists() and ready.read_text() == json.dumps(environment.installs))


def _folder(environment: Environment, cache: Path) -> Path:
    return cache / "peers" / environment.name


def _make(environment: Environment, folder: Path, python: Path) -> None:
    calls = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    calls += [[*pip, *packages] for packages in environment.installs]
    for call in calls:
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalledError(f"it could not be installed: {last_line(done.stderr)}")


def versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    """Versions of an environment's packages, and of its Python. Raises NotInstalledError if that doesn't run."""
    try:
        done = subprocess.run([python, "-c", TOLD, *names], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotInstalledError(f"its Python does not run: {error}") from None
    return json.loads(done.stdout)


def last_line(text: str) -> str:
    """The last line that says something; of pip's and Python's errors it says the most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
