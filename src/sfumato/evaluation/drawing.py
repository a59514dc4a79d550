"""A pipeline as what draws the pictures of an evaluation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sfumato.errors import EvaluationError, NumericalError
from sfumato.pipeline import StableDiffusionPipeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OF_ONE_IMAGE = re.compile(r"image (\d+)(?: failed)?:? ")


@dataclass(frozen=True, slots=True)
class Drawing:
    """Draws with a pipeline; `settings` are options of its call, such as `guidance_scale`."""

    pipe: StableDiffusionPipeline
    settings: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> "tuple[list[NDArray[np.uint8] | None], list[list[str]]]":
        """One picture a prompt; None, with a note why, for one that could not be made."""
        try:
            result = self.pipe(list(prompts), seeds=list(seeds), output_type="pil", **self.settings)
        except (NumericalError, EvaluationError) as error:
            return [None] * len(prompts), [[str(error)] for _ in prompts]
        notes: list[list[str]] = [[] for _ in prompts]
        for note in result.notes:
            of_one = _OF_ONE_IMAGE.match(note)
            for place in range(len(prompts)) if of_one is None else [int(of_one[1]) - 1]:
                notes[place].append(note)
        return [None if image is None else np.asarray(image.convert("RGB")) for image in result.images], notes
