"""Guidance: which rows of a network batch an image needs, and how one answer is made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from torch import Tensor

from sfumato.diffusion.perturbation import Perturbation
from sfumato.errors import OptionError

Row: TypeAlias = str
"""A row of the network's batch: "uncond", with the context of the negative (or empty) prompt; "image", with that and a picture beside;
"cond", with the context of the prompt; with those of the prompt's further parts "cond 2", "cond 3" …; and "perturbed", "perturbed 2" …,
each with the context of the "cond" of its number, for a network some of whose attention is switched off."""

WHOLE = (1.0,)
"""The weights of a prompt that is not parted."""

EVERYWHERE = (-math.inf, math.inf)
"""All levels of noise."""


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


def rescaled(answer: Tensor, prompted: Tensor, share: float) -> Tensor:
    """A guided answer brought `share` of the way to the standard deviation of the answer to the prompt alone, which guidance enlarges.

    Source: Lin et al. 2023, arXiv:2305.08891, section 3.4.
    """
    return share * (answer * (prompted.std() / answer.std())) + (1 - share) * answer


def part_rows(parts: int) -> tuple[Row, ...]:
    """The names of the rows of a prompt of so many parts."""
    return ("cond", *(f"cond {number}" for number in range(2, parts + 1)))


def perturbed_rows(parts: int) -> tuple[Row, ...]:
    """The names of their perturbed rows."""
    return tuple(name.replace("cond", "perturbed") for name in part_rows(parts))


def is_perturbed(row: Row) -> bool:
    """Whether a row is for the perturbed network."""
    return row.startswith("perturbed")


def conditioned_as(row: Row) -> Row:
    """The row whose conditioning a row has: its own, but that the picture alone hears no prompt, and a perturbed row what its "cond" hears."""
    return "uncond" if row == "image" else row.replace("perturbed", "cond")


def asks_uncond(scale: float, weights: Sequence[float] = WHOLE) -> bool:
    """Whether an answer needs the unconditioned one: above a scale of 1, and where the parts' weights don't add up to 1."""
    return scale > 1 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """Classifier-free guidance by `scale`. At 1 and below there is none, as the field has it, and half the work.

    unconditioned   whether the row without the prompt is evaluated whatever the scale, for a sampler that asks for it
    weights         those of the prompt's parts
    rescale         how far the answer is brought back to the standard deviation of an unguided one, 0 to 1
    interval        the levels of noise that are guided: above the first, up to the second
    perturbation    guidance away from a perturbed network, beside this one; None for none

    What a run is given is the whole of it; `at` says what is left of that for one question. Raises OptionError for a scale that is negative
    or not finite.
    Source of the interval: Kynkäänniemi et al. 2024, arXiv:2404.07724, section 3.
    """

    scale: float = 7.5
    unconditioned: bool = False
    weights: tuple[float, ...] = WHOLE
    rescale: float = 0.0
    interval: tuple[float, float] = EVERYWHERE
    perturbation: Perturbation | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise OptionError(
                f"guidance_scale {self.scale} is not usable; give a number from 0 up (1 or less: no guidance, usual: 5 to 10)."
            )

    def at(self, sigma: float, timestep: float) -> Self:
        """The guidance of a question at this level of noise, which is that timestep of the network's.

        Outside the interval there is none of any kind: the answer is the one to the prompt. A sampler that asks for the unconditioned one
        as well gets that for both, and its step is an unguided one.
        """
        low, high = self.interval
        if not low < sigma <= high:
            return self.ended()
        if self.perturbation is None:
            return self
        return replace(self, perturbation=self.perturbation.at(timestep))

    def ended(self) -> Self:
        """No guidance of any kind: what is left of this where it has ended."""
        return replace(self, scale=1.0, unconditioned=False, perturbation=None)

    def rows(self) -> tuple[Row, ...]:
        """The rows to evaluate, in batch order."""
        return (*self._plain_rows(), *self._perturbed_rows())

    def answer(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """One answer made of the network's answers to `rows()`."""
        answer = self._guided(rows)
        if self.perturbation is not None:
            names = zip(part_rows(len(self.weights)), self._perturbed_rows(), self.weights, strict=True)
            for cond, perturbed, weight in names:
                answer = answer + self.perturbation.scale * weight * (rows[cond] - rows[perturbed])
        if self.rescale > 0 and self.scale > 1:
            answer = rescaled(answer, self._prompted(rows), self.rescale)
        return answer

    def _plain_rows(self) -> tuple[Row, ...]:
        conds = part_rows(len(self.weights))
        return ("uncond", *conds) if self.unconditioned or asks_uncond(self.scale, self.weights) else conds

    def _perturbed_rows(self) -> tuple[Row, ...]:
        return () if self.perturbation is None else perturbed_rows(len(self.weights))

    def _guided(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """The answer of the rows that are not perturbed."""
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

    def _prompted(self, rows: Mapping[Row, Tensor]) -> Tensor:
        """The answer to the prompt alone, as a scale of 1 gives it."""
        if self.weights == WHOLE:
            return rows["cond"]
        conds = [rows[name] for name in part_rows(len(self.weights))]
        return compose(rows["image" if "image" in rows else "uncond"], conds, self.weights, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureGuidance(Guidance):
    """Guidance by a prompt, and by the picture that is to be edited, each from the answer without it.

    Source: Brooks et al. 2023, arXiv:2211.09800, Eq. 3; of a prompt in parts, each as far from the picture as its weight says.
    """

    image_scale: float = 1.5

    def _plain_rows(self) -> tuple[Row, ...]:
        """With neither, with the picture alone, and with both."""
        return ("uncond", "image", *part_rows(len(self.weights))) if self.scale > 1 else Guidance._plain_rows(self)

    def _guided(self, rows: Mapping[Row, Tensor]) -> Tensor:
        if "image" not in rows:
            return Guidance._guided(self, rows)
        toward_picture = self.image_scale * (rows["image"] - rows["uncond"])
        answer = rows["uncond"]
        for name, weight in zip(part_rows(len(self.weights)), self.weights, strict=True):
            answer = answer + self.scale * weight * (rows[name] - rows["image"])
        return answer + toward_picture
