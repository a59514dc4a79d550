"""Guidance: which rows of a network batch an image needs, and how one answer is made of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from sfumato.errors import OptionError

Row: TypeAlias = Literal["uncond", "image", "cond"]
"""A row of the network's batch: with the context of the negative (or empty) prompt, or with that of the prompt."""


def combine(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: from the unconditioned answer towards, and past, the conditioned one.

    Source: Ho & Salimans 2022, arXiv:2207.12598, Eq. 6 with s = 1 + w.
    """
    return uncond + scale * (cond - uncond)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """Classifier-free guidance by `scale`. At 1 and below there is none, as the field has it, and half the work.

    With `unconditioned` the row without the prompt is evaluated whatever the scale, for a sampler that asks for it.
    Raises OptionError for a scale that is negative or not finite.
    """

    scale: float = 7.5
    unconditioned: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise OptionError(
                f"guidance_scale {self.scale} is not usable; give a number from 0 up (1 or less: no guidance, usual: 5 to 10)."
            )

    def rows(self) -> tuple[Row, ...]:
        """The rows to evaluate, in batch order."""
        return ("uncond", "cond") if self.scale > 1 or self.unconditioned else ("cond",)

    def answer(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """One answer made of the network's answers to `rows()`."""
        return combine(rows["uncond"], rows["cond"], self.scale) if "uncond" in rows else rows["cond"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureGuidance(Guidance):
    """Guidance by a prompt, and by the picture that is to be edited, each from the answer without it.

    Source: Brooks et al. 2023, arXiv:2211.09800, Eq. 3.
    """

    image_scale: float = 1.5

    def rows(self) -> tuple[Row, ...]:
        """The rows to evaluate: with neither, with the picture alone, and with both."""
        return ("uncond", "image", "cond") if self.scale > 1 else Guidance.rows(self)

    def answer(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """One answer made of the network's answers to `rows()`."""
        if "image" not in rows:
            return Guidance.answer(self, rows)
        toward_picture = self.image_scale * (rows["image"] - rows["uncond"])
        return rows["uncond"] + self.scale * (rows["cond"] - rows["image"]) + toward_picture
