"""Painting a part of a picture anew, with any model: a rule for each step. Models made for it read the mask and the picture as well.

Source: Lugmayr et al. 2022, arXiv:2201.09865, Eq. 8.
"""

from torch import Tensor

from sfumato.diffusion.conversation import Step
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import StepRule
from sfumato.pipeline.masks import filled_from_around


def keep_outside(picture: Tensor, noise: Tensor, mask: Tensor, last_scale: float) -> StepRule:
    """The rule that keeps a picture where the mask is 0, with its own noise at each level; at the end the picture itself.

    `picture` and `noise` are latents `c h w`, the mask `1 h w` in [0, 1]; x at the last level times `last_scale` is latents.
    """

    def rule(step: Step, is_last: bool) -> Tensor:
        kept = picture / last_scale if is_last else picture + step.sigma * noise
        return (1 - mask) * kept + mask * step.x

    return rule


def masked_away(pixels: Tensor, mask: Tensor, content: str) -> Tensor:
    """The picture to be encoded: where its surroundings are to lie under the mask, with these."""
    return filled_from_around(pixels, mask) if content == "fill" else pixels


def under_mask(picture: Tensor, mask: Tensor, content: str, source: NoiseSource) -> Tensor:
    """The latents to begin from, with what is to lie under the mask at first."""
    match content:
        case "noise":
            return (1 - mask) * picture + mask * source.draw()
        case "nothing":
            return (1 - mask) * picture
        case _:
            return picture
