"""What the inside of a U-Net made of one question, kept for the next: there it changes little from step to step."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True, eq=False)
class DeepFeatures:
    """A feature map of the way up, taken and given back where `depth` layers of the way down lie outside.

    depth      how many layers of the way down are computed at every question: 0 for the first convolution alone
    features   `b c h w`; None before a question whose evaluation is whole, which puts it here

    Source: Ma et al. 2023, arXiv:2312.00858, for the skip branch of that depth.
    """

    depth: int
    features: Tensor | None = None

    def of(self, rows: slice) -> "DeepFeatures":
        """Those of some rows, for one evaluation."""
        return DeepFeatures(self.depth, None if self.features is None else self.features[rows])
