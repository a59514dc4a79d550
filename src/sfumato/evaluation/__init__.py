"""How well a model draws what it is asked: prompts to pictures to numbers, beside the same numbers for real art."""

from sfumato.evaluation.baseline import Baseline, read_baseline, write_baseline
from sfumato.evaluation.evaluate import Evaluation, evaluate
from sfumato.evaluation.features import Classifier, load_classifier
from sfumato.evaluation.gallery import Gallery, read_gallery, write_gallery
from sfumato.evaluation.prompts import KINDS, Case, Repertoire, cases_of

__all__ = [
    "KINDS",
    "Baseline",
    "Case",
    "Classifier",
    "Evaluation",
    "Gallery",
    "Repertoire",
    "cases_of",
    "evaluate",
    "load_classifier",
    "read_baseline",
    "read_gallery",
    "write_baseline",
    "write_gallery",
]
