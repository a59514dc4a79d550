"""What goes wrong while a file is read, said of the file in one line."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sfumato.errors import CheckpointError, CorruptFileError, UnsafeFileError


@contextmanager
def naming(path: Path) -> Generator[None]:
    """What is wrong within is said of this file, with what to do."""
    try:
        yield
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: {error}; get the model as safetensors, from a place you trust") from error
    except CorruptFileError as error:
        advice = "" if ";" in str(error) else "; download the model again"
        raise CorruptFileError(f"{path}: {error}{advice}") from error


@contextmanager
def reading(path: Path) -> Generator[None]:
    """What fails within is said of the file: CorruptFileError if it is cut short or something else, CheckpointError for memory."""
    try:
        with enough_memory(path):
            yield
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        # The library quotes names as they are in the file.
        reason = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line[:500])
        how = " as safetensors" if isinstance(error, SafetensorError) else ""
        raise CorruptFileError(f"{path} can't be read{how} ({reason}); download the model again") from error


@contextmanager
def enough_memory(path: Path) -> Generator[None]:
    """Raise CheckpointError where memory runs out within: nothing is wrong with the file then."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError, SafetensorError) as error:
        # PyTorch's allocator on the CPU and a mapping that fails have no class of their own.
        said = str(error).lower()
        if isinstance(error, MemoryError) or any(words in said for words in ("allocate memory", "not enough memory")):
            raise CheckpointError(
                f"there is not enough memory to open {path}; free some, or open the model in a smaller dtype such as float16"
            ) from error
        raise
