"""The C beside this file, translated once by the machine's compiler and kept for the next process.

Only instructions that PyTorch uses on this processor are asked for, and their order is not the compiler's to choose: what is kept depends on
the source and these instructions, and so do the numbers.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
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


def library() -> ctypes.CDLL:
    """The kernels, compiled where no earlier process has done it. Raises EngineError with what is missing; it is tried once a process."""
    with _lock:
        made = _made()
    if isinstance(made, EngineError):
        raise made.with_traceback(None)
    return made[0]


def digest() -> str | None:
    """By what recipes name the library that this process has; None before it was needed, or where there is none."""
    if not _made.cache_info().currsize or isinstance(made := _made(), EngineError):
        return None
    return kept_as(made[1])


@cache
def _made() -> tuple[ctypes.CDLL, tuple[str, ...]] | EngineError:
    if os.environ.get(OFF) == "0":
        return EngineError(f"{OFF} is 0")
    failed: EngineError | None = None
    try:
        for flags in instructions():
            try:
                return build(flags), flags
            except EngineError as error:  # an old compiler may know fewer instructions
                failed = failed or error
    except EngineError as error:
        return error
    except (OSError, RuntimeError) as error:  # no folder that can be written to, of whatever kind
        return EngineError(f"they can't be compiled ({error})")
    assert failed is not None, "there are always some instructions to try"
    return failed


def instructions() -> list[tuple[str, ...]]:
    """The compiler's words for the vector instructions that PyTorch uses here, and for fewer of them. Raises EngineError for none of ours."""
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine().lower() not in ("x86_64", "amd64") or not capability.startswith("AVX"):
        raise EngineError("the kernels are written for x86 processors with AVX2 or AVX-512")
    if not capability.startswith("AVX512"):
        return [AVX2]
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)  # PyTorch has no public name for it
    return [VNNI, AVX512] if has_vnni() else [AVX512]


def sources(flags: tuple[str, ...]) -> list[Path]:
    """The C files that these instructions serve."""
    return sorted(path for path in _FOLDER.glob("*.c") if "-mavx512vnni" in flags or "int8" not in path.name)


def kept_as(flags: tuple[str, ...]) -> str:
    """A digest of the source and the instructions, by which the library is kept."""
    source = hashlib.blake2b(digest_size=8)
    for path in sorted(_FOLDER.glob("*.[ch]")):
        source.update(path.read_bytes())
    source.update(repr((FLAGS, flags)).encode())
    return source.hexdigest()


def build(flags: tuple[str, ...], folder: Path | None = None) -> ctypes.CDLL:
    """The library for these instructions from `folder`, by default Sfumato's cache, where it is put if it was not there.

    One that can't be kept is used all the same, and one that others could have written is not. Raises EngineError where it can't be
    compiled or loaded, OSError where not even a temporary folder can be made.
    """
    path = _place(flags, folder)
    if path is not None and path.is_file() and _is_ours(path) and _is_ours(path.parent):
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            logger.info("what was compiled earlier can't be loaded and is compiled again: %s", error)
    beside = _beside(path)
    try:
        made = _compiled(flags, beside / f"{kept_as(flags)}.so")
        try:
            kernels = ctypes.CDLL(str(made))
        except OSError as error:
            raise EngineError(f"what the compiler made can't be loaded ({error})") from error
        if path is not None and beside.parent == path.parent:
            try:
                made.replace(path)
            except OSError as error:
                logger.info("the kernels are not kept for the next process: %s", error)
        return kernels
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _place(flags: tuple[str, ...], folder: Path | None) -> Path | None:
    """Where the library is kept; None where there is no such place."""
    try:
        folder = folder or cache_folder() / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home
        logger.info("the kernels are compiled for this process alone: %s", error)
        return None
    return folder / f"{kept_as(flags)}.so"


def _beside(path: Path | None) -> Path:
    """A folder to compile in, beside the place where the result is kept if that can be."""
    if path is not None:
        try:
            return Path(tempfile.mkdtemp(prefix=".building-", dir=path.parent))
        except OSError as error:
            logger.info("the kernels are compiled for this process alone: %s", error)
    return Path(tempfile.mkdtemp(prefix="sfumato-"))


def _is_ours(path: Path) -> bool:
    """Whether nobody but this user, and the system's, can have written it."""
    known = path.stat()
    return os.name != "posix" or (known.st_uid in (0, os.geteuid()) and not known.st_mode & 0o022)


def _compiled(flags: tuple[str, ...], path: Path) -> Path:
    compiler = _compiler()
    command = [*compiler, *FLAGS, *flags, *map(str, sources(flags)), "-o", str(path), "-lm"]
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
        raise EngineError(f"{compiler[0]} took longer than {PATIENCE} s") from None
    except OSError as error:
        raise EngineError(f"{compiler[0]} can't be run ({error.strerror})") from error
    if done.returncode != 0 or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise EngineError(f"{compiler[0]} failed: {lines[0].strip() or f'exit status {done.returncode}'}")
    path.chmod(0o700)
    logger.info("compiled the kernels in C in %.1f s (%s)", perf_counter() - begun, compiler[0])
    return path


def _compiler() -> list[str]:
    """The compiler's command, with the arguments that CC gives it."""
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError:
        named = [os.environ["CC"]]
    for name in named[:1] or ("cc", "gcc", "clang"):
        if (found := shutil.which(name)) is not None:
            return [found, *named[1:]]
    raise EngineError(
        f"there is no C compiler ({named[0]}, as CC says)" if named else "there is no C compiler (cc, gcc, clang)"
    )
