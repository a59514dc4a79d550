"""Every error Sfumato raises on purpose, in one tree.

    SfumatoError
    ├── UsageError (also ValueError)     what was asked for can't be done as asked
    │   ├── PromptError                  no prompt, or one of the wrong type
    │   ├── SizeError                    a width or height the model can't draw
    │   ├── OptionError                  a number or choice out of its range (steps, guidance, eta …)
    │   ├── UnknownNameError             a sampler, spacing, scheduler … that does not exist; offers the nearest
    │   ├── ScheduleError                noise levels that can't be made or visited
    │   ├── EngineError                  an engine that this machine does not have, or that can't evaluate a network
    │   └── UnsupportedError             an option of the field that Sfumato does not honour, and why
    │       ├── AbsentError              (also AttributeError) a well-known attribute that a pipeline does not have
    │       └── AbsentNameError          (also ImportError) a name of diffusers that the package does not have
    ├── CheckpointError                  a model that can't be opened
    │   ├── MissingFileError             a file or folder that is not there
    │   ├── CorruptFileError             truncated, or not what its name says
    │   ├── UnsafeFileError              asks for what no model needs: code to run, a place outside, memory out of proportion
    │   ├── ConfigError                  a config with unknown classes, keys or values
    │   ├── KeyMismatchError             tensors missing, unexpected or of the wrong shape
    │   ├── AdapterError                 a LoRA or embedding that does not fit the model, or is damaged
    │   └── DownloadError                the hub could not be reached, or has no such model
    ├── OutputError                      a file that can't be written (exists, read-only, disk full)
    ├── ImageError                       a picture that can't be read
    │   ├── RecipeError                  a picture or JSON that carries no recipe, or a damaged one
    │   └── MetadataError                settings of another program's that can't be read
    ├── NumericalError                   NaN or infinity, with the step and layer where it arose
    ├── EvaluationError                  a network could not be evaluated (out of memory, a device that failed)
    ├── Cancelled                        the run was stopped on request
    ├── BaselineError                    a model that draws worse than it did
    ├── DataError                        training data that can't be fetched, verified or read
    └── TrainingError                    a training run that can't start, resume or go on

Each message is one line that says what was wrong, what was expected and what to do. The command prints it and exits with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SfumatoError(Exception):
    """Base of every error Sfumato raises on purpose."""


class UsageError(SfumatoError, ValueError):
    """What was asked for can't be done as asked."""


class PromptError(UsageError):
    """No prompt, or one of the wrong type."""


class SizeError(UsageError):
    """A width or height the model can't draw."""


class OptionError(UsageError):
    """A number or choice out of its range."""


class UnknownNameError(UsageError):
    """A name of a kind (sampler, spacing …) that does not exist; the message offers the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        lowered = {k.lower(): k for k in self.known}
        self.nearest = tuple(lowered[n] for n in get_close_matches(name.lower(), lowered, n=3, cutoff=0.4))
        hint = f"did you mean {' or '.join(self.nearest)}?" if self.nearest else f"known: {', '.join(self.known)}."
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class ScheduleError(UsageError):
    """Noise levels that can't be made or visited."""


class EngineError(UsageError):
    """An engine that this machine does not have, with what to install, or that can't evaluate a network."""


class UnsupportedError(UsageError):
    """An option of the field that Sfumato does not honour, and why."""


class AbsentError(UnsupportedError, AttributeError):
    """A well-known name that a pipeline does not have; for `hasattr` it is simply not there."""


class AbsentNameError(UnsupportedError, ImportError):
    """A name of diffusers that the package does not have. An ImportError, because `from … import` would swallow another's text."""


class CheckpointError(SfumatoError):
    """A model that can't be opened."""


class MissingFileError(CheckpointError, FileNotFoundError):
    """A file or folder of a model that is not there."""


class CorruptFileError(CheckpointError):
    """A model file that is truncated, or not what its name says."""


class UnsafeFileError(CheckpointError):
    """A model file that asks for what no model needs: code to be run, a place outside it, memory out of all proportion."""


class ConfigError(CheckpointError):
    """A config with unknown classes, keys or values."""


class KeyMismatchError(CheckpointError):
    """Tensors missing from a file, unexpected in it, or of the wrong shape."""


class AdapterError(CheckpointError):
    """A LoRA or an embedding that does not fit the model, or is damaged."""


class DownloadError(CheckpointError):
    """The hub could not be reached, or has no such model."""


class OutputError(SfumatoError):
    """A file that can't be written: it exists, the folder is read-only, the disk is full."""


class ImageError(SfumatoError):
    """A picture that can't be read."""


class RecipeError(ImageError):
    """A picture or JSON that carries no recipe, or a damaged one."""


class MetadataError(ImageError):
    """A picture whose settings, left by another program, can't be read, or that has none."""


class NumericalError(SfumatoError):
    """NaN or infinity in a run, with the step and layer where it arose."""


class EvaluationError(SfumatoError):
    """A network could not be evaluated: memory ran out, or the device failed."""


class Cancelled(SfumatoError):  # noqa: N818 - the field's word for it
    """The run was stopped on request."""


class BaselineError(SfumatoError):
    """A model that draws worse than it did: an evaluation under the committed baseline."""


class DataError(SfumatoError):
    """Training data that can't be fetched, verified or read."""


class TrainingError(SfumatoError):
    """A training run that can't start, resume or go on."""
