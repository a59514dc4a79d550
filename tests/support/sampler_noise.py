"""What a sampler is started with, by what the table says that it needs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sfumato.diffusion.samplers import SAMPLERS


def noise_for(name: str, draw: Callable[[], Tensor]) -> dict[str, Any]:
    """The noise options of a sampler, all drawn in order from `draw`."""
    return {"start": {}, "steps": {"noise": draw}, "path": {"path": lambda *_: draw()}}[SAMPLERS[name].noise]
