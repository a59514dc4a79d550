"""Stable Diffusion's safety checker: how near a picture is to a few concepts that its makers chose to block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder
from sfumato.models.linear import Linear
from sfumato.models.network import Network

if TYPE_CHECKING:
    from jaxtyping import Float

# A picture near a special concept is judged more strictly on all others. Source: CompVis' checker, as released with SD 1.4.
SPECIAL_ADJUSTMENT = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetyCheckerConfig:
    """Sizes of a safety checker; the defaults are those of the one released with Stable Diffusion 1.4."""

    vision: CLIPVisionConfig = field(default_factory=CLIPVisionConfig)
    projection_dim: int = 768
    concepts: int = 17
    special_concepts: int = 3


class SafetyVerdict(NamedTuple):
    """What the checker says of a batch of pictures. A score is nearness above the concept's threshold, to three decimals."""

    flagged: Tensor
    """Whether to block: `b` bools, true where any concept score is above 0."""
    concept_scores: Tensor
    """`b concepts`, float32."""
    special_scores: Tensor
    """`b special_concepts`, float32. The released checker adds 0.01 to those after the first that is above 0, within its loop; here
    they are left as they are, which changes no decision: that one is above 0 already, and nothing else is asked of them."""


class SafetyChecker(Network):
    """Compares CLIP's view of a picture with stored concepts by cosine. Source: Rando et al. 2022, arXiv:2210.04610, section 3."""

    def __init__(self, config: SafetyCheckerConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = CLIPVisionEncoder(config.vision)
        self.projection = Linear(config.vision.width, config.projection_dim, bias=False)
        self.concepts = nn.Parameter(torch.ones(config.concepts, config.projection_dim), requires_grad=False)
        self.thresholds = nn.Parameter(torch.ones(config.concepts), requires_grad=False)
        self.special_concepts = nn.Parameter(
            torch.ones(config.special_concepts, config.projection_dim), requires_grad=False
        )
        self.special_thresholds = nn.Parameter(torch.ones(config.special_concepts), requires_grad=False)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "b c size size"]) -> SafetyVerdict:
        """Judge pixels normalised as CLIP's preprocessing does."""
        seen = F.normalize(self.projection(self.vision(pixels)))
        special_scores = scores(seen, self.special_concepts, self.special_thresholds)
        strictness = SPECIAL_ADJUSTMENT * (special_scores > 0).any(dim=1, keepdim=True)
        concept_scores = scores(seen, self.concepts, self.thresholds, strictness)
        return SafetyVerdict((concept_scores > 0).any(dim=1), concept_scores, special_scores)


def scores(seen: Tensor, concepts: Tensor, thresholds: Tensor, strictness: Tensor | float = 0.0) -> Tensor:
    """Cosine above each threshold, plus `strictness`, rounded as the released checker rounds: it decides at the third decimal."""
    cosine = (seen @ F.normalize(concepts).T).float()
    return torch.round(cosine - thresholds.float() + strictness, decimals=3)
