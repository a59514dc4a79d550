"""Drives samplers, batches their questions, keeps precision and failure in their places."""

from sfumato.allocator import reusing_memory
from sfumato.engine.engine import Engine
from sfumato.engine.events import Event, ImageDone, ImageFailed, StepDone
from sfumato.engine.fast import NOTHING_SPARED, FastOptions
from sfumato.engine.frontier import evaluating
from sfumato.engine.job import Conditioning, Job, StepRule
from sfumato.engine.windows import Windows

__all__ = [
    "NOTHING_SPARED",
    "Conditioning",
    "Engine",
    "Event",
    "FastOptions",
    "ImageDone",
    "ImageFailed",
    "Job",
    "StepDone",
    "StepRule",
    "Windows",
    "evaluating",
    "reusing_memory",
]
