"""Perturbed-attention guidance: away from what a network answers whose self-attention is switched off in places."""

from dataclasses import dataclass, replace
from typing import Self

TRAINED_STEPS = 1000
"""Where the adaptive scale counts from, as in its authors' code and diffusers', however many timesteps the network has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Perturbation:
    """Guidance from the answer of the perturbed network, in which the attention map of some layers is the identity, towards its own answer.

    scale      how far; the prompt's guidance has a scale of its own
    adaptive   how much of the scale is gone with each of the network's timesteps, from 1000 down; at none left there is no such guidance
    layers     the names of these attentions in the U-Net

    Source: Ahn et al. 2024, arXiv:2403.17377, section 4; the adaptive scale is that of its authors' code.
    """

    scale: float
    adaptive: float = 0.0
    layers: tuple[str, ...]

    def at(self, timestep: float) -> Self | None:
        """What is left of it at a timestep; None for nothing."""
        left = self.scale - self.adaptive * (TRAINED_STEPS - timestep) if self.adaptive > 0 else self.scale
        return replace(self, scale=left) if left > 0 else None
