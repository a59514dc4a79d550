"""What a run takes in memory, how it keeps within a budget, and what it does when memory runs out."""

from sfumato.engine.memory.budget import Budget, in_words, parse_budget
from sfumato.engine.memory.economy import Economy
from sfumato.engine.memory.plan import LADDER, Measures, Prediction, Sizes, choose, ladder_of, predict
from sfumato.engine.memory.process import PROCESS, anonymous

__all__ = [
    "LADDER",
    "PROCESS",
    "Budget",
    "Economy",
    "Measures",
    "Prediction",
    "Sizes",
    "anonymous",
    "choose",
    "in_words",
    "ladder_of",
    "parse_budget",
    "predict",
]
