"""Guidance: which rows of a network batch an image needs, and how one answer is made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from sfumato.errors import OptionError

Row: TypeAlias = str
"""A row of the network's batch: "uncond", with the context of the negative (or empty) prompt; "image", with that and a picture beside;
"cond", with the context of the prompt; and with those of the prompt's further parts "cond 2", "cond 3" …"""

WHOLE = (1.0,)
"""The weights of a prompt that is not parted."""


def combine(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: from the unconditioned answer towards, and past, the conditioned one.

    Source: Ho & Salimans 2022, arXiv:2207.12598, Eq. 6 with s = 1 + w.
    """
    return uncond + scale * (cond - uncond)


def compose(uncond: Tensor, conds: Sequence[Tensor], weights: Sequence[float], scale: float) -> Tensor:
    """Guidance towards several prompts at once: the unconditioned answer, and from it as far towards each as its weight says.

    Source: Liu et al. 2022, arXiv:2206.01714, Eq. 11.
    """
    answer = uncond
    for cond, weight in zip(conds, weights, strict=True):
        answer = answer + scale * weight * (cond - uncond)
    return answer


def part_rows(parts: int) -> tuple[Row, ...]:
    """The names of the rows of a prompt of so many parts."""
    return ("cond", *(f"cond {number}" for number in range(2, parts + 1)))


def asks_uncond(scale: float, weights: Sequence[float] = WHOLE) -> bool:
    """Whether an answer needs the unconditioned one: above a scale of 1, and where the parts' weights don't add up to 1."""
    return scale > 1 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """Classifier-free guidance by `scale`. At 1 and below there is none, as the field has it, and half the work.

    With `unconditioned` the row without the prompt is evaluated whatever the scale, for a sampler that asks for it. `weights` are those of
    the prompt's parts. Raises OptionError for a scale that is negative or not finite.
    """

    scale: float = 7.5
    unconditioned: bool = False
    weights: tuple[float, ...] = WHOLE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise OptionError(
                f"guidance_scale {self.scale} is not usable; give a number from 0 up (1 or less: no guidance, usual: 5 to 10)."
            )

    def rows(self) -> tuple[Row, ...]:
        """The rows to evaluate, in batch order."""
        conds = part_rows(len(self.weights))
        return ("uncond", *conds) if self.unconditioned or asks_uncond(self.scale, self.weights) else conds

    def answer(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """One answer made of the network's answers to `rows()`."""
        conds = [rows[name] for name in part_rows(len(self.weights))]
        if "uncond" not in rows:
            # The weights add up to 1, so the unconditioned answer would cancel out.
            first, *others = (
                cond if weight == 1 else cond * weight for cond, weight in zip(conds, self.weights, strict=True)
            )
            return sum(others, start=first)
        if self.weights == WHOLE:
            return combine(rows["uncond"], conds[0], self.scale)
        # Samplers that ask for the unconditioned row mean scales under 1 as they are.
        return compose(rows["uncond"], conds, self.weights, self.scale if self.unconditioned else max(self.scale, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureGuidance(Guidance):
    """Guidance by a prompt, and by the picture that is to be edited, each from the answer without it.

    Source: Brooks et al. 2023, arXiv:2211.09800, Eq. 3; of a prompt in parts, each as far from the picture as its weight says.
    """

    image_scale: float = 1.5

    def rows(self) -> tuple[Row, ...]:
        """The rows to evaluate: with neither, with the picture alone, and with both."""
        return ("uncond", "image", *part_rows(len(self.weights))) if self.scale > 1 else Guidance.rows(self)

    def answer(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """One answer made of the network's answers to `rows()`."""
        if "image" not in rows:
            return Guidance.answer(self, rows)
        toward_picture = self.image_scale * (rows["image"] - rows["uncond"])
        answer = rows["uncond"]
        for name, weight in zip(part_rows(len(self.weights)), self.weights, strict=True):
            answer = answer + self.scale * weight * (rows[name] - rows["image"])
        return answer + toward_picture
