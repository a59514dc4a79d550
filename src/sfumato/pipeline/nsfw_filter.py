"""The safety filter that comes with Sfumato, for models that bring no safety checker."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.checkpoints.nsfw_weights import open_nsfw_classifier
from sfumato.models.nsfw_classifier import KINDS, SIDE, UNSAFE, NSFWClassifier
from sfumato.pipeline.request import check_number

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class NSFWFilter:
    """Flags pictures that a small classifier thinks unsafe for work: `pipe.safety_checker = NSFWFilter(threshold=0.3)`.

    A picture's score, 0 to 1, is the likelihood that it is of one of the unsafe kinds; from `threshold` on it is flagged. The classifier
    computes in float32 on the CPU, whatever the pipeline does, so that a picture has the same score everywhere.
    Raises OptionError for a threshold that is not from 0 to 1.
    """

    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", check_number("safety_threshold", self.threshold, least=0.0, most=1.0))

    def scores(self, picture: np.ndarray) -> dict[str, float]:
        """The likelihood of each kind of picture, and `nsfw`, that of the unsafe ones together; of `h w 3` uint8, of any size."""
        with torch.autocast("cpu", enabled=False):
            (row,) = classifier()(prepared(picture)[None]).tolist()
        kinds = dict(zip(KINDS, row, strict=True))
        return {"nsfw": math.fsum(kinds[kind] for kind in UNSAFE), **kinds}

    def flags(self, scores: dict[str, float]) -> bool:
        """Whether a picture with these scores is flagged. One whose score is not a number is."""
        return not scores["nsfw"] < self.threshold


def prepared(picture: np.ndarray) -> Tensor:
    """Pixels `3 224 224` in [0, 1] of a picture `h w 3` uint8: squeezed to a square, between the four nearest pixels.

    Corners stay corners and nothing is smoothed first. It is how nsfwjs, where the weights come from, looks at pictures.
    """
    pixels = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)
    return F.interpolate(pixels[None], size=(SIDE, SIDE), mode="bilinear", align_corners=True)[0]


@cache
def classifier() -> NSFWClassifier:
    """The network, opened when a picture is first judged and kept."""
    return open_nsfw_classifier()
