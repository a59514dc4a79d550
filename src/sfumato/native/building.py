"""The C beside this file, translated once by the machine's compiler and kept for the next process.

Only instructions that PyTorch uses on this processor are asked for, and their order is not the compiler's to choose: what is kept depends on
the source and these instructions, and so do the numbers.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from time import perf_counter

import torch

from sfumato.errors import EngineError
from sfumato.files import cache_folder

logger = logging.getLogger("sfumato")

OFF = "SFUMATO_NATIVE"
"""The variable of the environment that, set to 0, leaves everything to PyTorch."""

FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC", "-shared")
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq")
VNNI = (*AVX512, "-mavx512vnni")
PATIENCE = 120
"""Seconds that a compiler may take; a small machine needs ten."""

_FOLDER = Path(__file__).parent
_lock = Lock()
_loaded: list[str] = []


@cache
def instructions() -> tuple[str, ...]:
    """The compiler's words for the vector instructions that PyTorch uses here. Raises EngineError where there are none of ours."""
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine().lower() not in ("x86_64", "amd64") or not capability.startswith("AVX"):
        raise EngineError("the kernels are written for x86 processors with AVX2 or AVX-512")
    if not capability.startswith("AVX512"):
        return AVX2
    return VNNI if torch.cpu._is_vnni_supported() else AVX512


def sources(flags: tuple[str, ...]) -> list[Path]:
    """The C files that these instructions serve."""
    return sorted(path for path in _FOLDER.glob("*.c") if "-mavx512vnni" in flags or "int8" not in path.name)


def kept_as(flags: tuple[str, ...]) -> str:
    """A digest of the source and the instructions, by which the library is kept and recipes name it."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(_FOLDER.glob("*.[ch]")):
        digest.update(path.read_bytes())
    digest.update(repr((FLAGS, flags)).encode())
    return digest.hexdigest()


def loaded() -> str | None:
    """The digest of the library that this process uses; None before it was needed, or where there is none."""
    return _loaded[0] if _loaded else None


def library() -> ctypes.CDLL:
    """The kernels, compiled where no earlier process has done it. Raises EngineError with what is missing; it is tried once a process."""
    with _lock:
        made = _made()
    if isinstance(made, EngineError):
        raise made.with_traceback(None)
    return made


def note_loaded(flags: tuple[str, ...]) -> None:
    """Remember that this process computes with the library of these instructions."""
    if not _loaded:
        _loaded.append(kept_as(flags))


@cache
def _made() -> ctypes.CDLL | EngineError:
    try:
        if os.environ.get(OFF) == "0":
            raise EngineError(f"{OFF} is 0")  # noqa: TRY301 - one place remembers what is missing
        return build(instructions())
    except EngineError as error:
        return error


def build(flags: tuple[str, ...], folder: Path | None = None) -> ctypes.CDLL:
    """The library for these instructions from `folder`, by default Sfumato's cache, where it is put if it was not there.

    One that can't be kept is used all the same. Raises EngineError where it can't be compiled or loaded.
    """
    path = (folder or cache_folder() / "native") / f"{kept_as(flags)}.so"
    if path.is_file():
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            logger.info("what was compiled earlier can't be loaded and is compiled again: %s", error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.mkdtemp(prefix=".building-", dir=path.parent)
    except OSError as error:
        logger.info("kernels are compiled for this process alone: %s", error)
        beside = tempfile.mkdtemp(prefix="sfumato-")
    try:
        made = _compiled(flags, Path(beside) / path.name)
        try:
            kernels = ctypes.CDLL(str(made))
        except OSError as error:
            raise EngineError(f"what the compiler made can't be loaded ({error})") from error
        if Path(beside).parent == path.parent:
            made.replace(path)
        return kernels
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _compiled(flags: tuple[str, ...], path: Path) -> Path:
    compiler = _compiler()
    command = [compiler, *FLAGS, *flags, *map(str, sources(flags)), "-o", str(path), "-lm"]
    begun = perf_counter()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{compiler} took longer than {PATIENCE} s") from None
    except OSError as error:
        raise EngineError(f"{compiler} can't be run ({error.strerror})") from error
    if done.returncode != 0 or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise EngineError(f"{compiler} failed: {lines[0].strip() or f'exit status {done.returncode}'}")
    logger.info("compiled the kernels in C in %.1f s (%s)", perf_counter() - begun, compiler)
    return path


def _compiler() -> str:
    named = os.environ.get("CC", "").split()
    for name in named[:1] or ("cc", "gcc", "clang"):
        if (found := shutil.which(name)) is not None:
            return found
    raise EngineError(
        f"there is no C compiler ({named[0]}, as CC says)" if named else "there is no C compiler (cc, gcc, clang)"
    )
