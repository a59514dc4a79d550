"""Where computing fails, the failure becomes one of ours: memory that ran out, a device that gave up."""

from collections.abc import Generator
from contextlib import contextmanager

from sfumato.engine.memory.process import is_out_of_memory
from sfumato.errors import EvaluationError


@contextmanager
def evaluating(what: str) -> Generator[None]:
    """Raise EvaluationError, "`what` could not be computed: why", for what PyTorch raises inside the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise evaluation_error(what, error) from error


def evaluation_error(what: str, error: Exception) -> EvaluationError:
    """The error in one line, with what to do where memory ran out."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    short = is_out_of_memory(error)
    hint = "; make the picture smaller, or fewer at a time" if short else ""
    return EvaluationError(f"{what} could not be computed: {reason.rstrip('.')}{hint}")
