"""How far two pictures are apart to an eye: by the features of a small classifier, not by pixels.

Pixels' errors are least for a picture that is a little blurred wherever the latents leave a doubt; features tell a blur from an edge. They are those of
the classifier that comes with the package, so that the one which an evaluation judges by has no say in what is learned.

Source: Zhang et al. 2018, arXiv:1801.03924, Eq. 1, with every channel's weight 1.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.checkpoints.nsfw_weights import open_nsfw_classifier
from sfumato.models.nsfw_classifier import pad_below_right

# The last block at a half, a fourth, an eighth and a sixteenth of the pixels' sides: what lies deeper tells kinds of pictures apart.
_LAST_OF_SIZE = (0, 2, 5, 12)
# Added to features' lengths: below what a feature has, above what rounding leaves of none.
_LEAST_LENGTH = 1e-3


class PerceptualDistance(nn.Module):
    """The distance of pictures by a classifier's features, mean over a batch; nothing of the classifier is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = open_nsfw_classifier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor, target: Tensor) -> Tensor:
        """A number from pixels `b 3 h w` in [-1, 1], sides a multiple of 16, and what they should be."""
        distance = pixels.new_zeros(())
        with torch.no_grad():
            wanted = list(self._features(target))
        for ours, theirs in zip(self._features(pixels), wanted, strict=True):
            distance = distance + (ours - theirs).square().sum(1).mean()
        return distance / len(wanted)

    def _features(self, pixels: Tensor) -> Iterator[Tensor]:
        """Features of unit length at each place, one tensor a size."""
        x = F.relu6(self.classifier.stem(pad_below_right(pixels.float().add(1).div(2))))
        for place, block in enumerate(self.classifier.blocks[: _LAST_OF_SIZE[-1] + 1]):
            x = block(x)
            if place in _LAST_OF_SIZE:
                yield x / (x.square().sum(1, keepdim=True).sqrt() + _LEAST_LENGTH)
