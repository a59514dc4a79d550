"""How networks are evaluated: eager PyTorch, or an engine that gives the same numbers sooner."""

from sfumato.engine.evaluators.choosing import NAMES, Auto, engine_for
from sfumato.engine.evaluators.evaluation import Choice, Evaluation, Evaluator, Prepared, difference
from sfumato.engine.evaluators.task import Task, decoder_task, unet_task, why_eager

__all__ = [
    "NAMES",
    "Auto",
    "Choice",
    "Evaluation",
    "Evaluator",
    "Prepared",
    "Task",
    "decoder_task",
    "difference",
    "engine_for",
    "unet_task",
    "why_eager",
]
