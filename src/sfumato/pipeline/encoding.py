"""From pictures to latents, one at a time."""

import copy

import torch
from torch import Tensor

from sfumato.engine import evaluating
from sfumato.engine.health import is_finite
from sfumato.errors import NumericalError
from sfumato.models.convolution import NOWHERE, Axes, wrapping
from sfumato.models.vae import AutoencoderKL, LatentDistribution
from sfumato.pipeline.parts import unwrapped


class Encoder:
    """Encodes pixels `3 h w` in [-1, 1]; one that overflows in float16 is computed in float32 from then on, in a copy.

    `tiled` encodes large pictures in tiles; along `axes` the picture wraps.
    """

    def __init__(self, vae: AutoencoderKL, *, tiled: bool = False, axes: Axes = NOWHERE) -> None:
        self._vae = vae
        self._tiled = tiled
        self.axes = axes

    @property
    def scale(self) -> int:
        """Pixels a latent, along each side."""
        return self._vae.scale

    def sampled(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Latents `c h w` drawn from the picture's distribution by unit noise, scaled as the network has them; float32 on the CPU."""
        found = self.distribution(pixels)
        latents = found.sample(noise[None].to(found.mean.device, found.mean.dtype))[0]
        return latents.to("cpu", torch.float32) * self._vae.config.scaling_factor

    def mode(self, pixels: Tensor) -> Tensor:
        """The likeliest latents, unscaled, as networks that edit pictures read them; float32 on the CPU."""
        return self.distribution(pixels).mode()[0].to("cpu", torch.float32)

    def scaled(self, pixels: Tensor) -> Tensor:
        """The likeliest latents, scaled as the network has them; float32 on the CPU."""
        return self.mode(pixels) * self._vae.config.scaling_factor

    def distribution(self, pixels: Tensor) -> LatentDistribution:
        """The distribution of latents, in a batch of one. Raises NumericalError where it is not finite, EvaluationError."""
        found = self._encode(pixels)
        if not is_finite(found.mean) and self._vae.dtype == torch.float16:
            self._vae = copy.deepcopy(unwrapped(self._vae)).to(torch.float32)
            found = self._encode(pixels)
        if not is_finite(found.mean):
            raise NumericalError(
                "NaN or infinity arose while the picture was encoded; its pixels, or the VAE's weights, are damaged"
            )
        return found

    def _encode(self, pixels: Tensor) -> LatentDistribution:
        vae = self._vae
        with torch.no_grad(), evaluating("the picture's latents"), wrapping(self.axes, vae):
            encode = vae.encode_tiled if self._tiled else vae.encode_whole
            return encode(pixels[None].to(vae.device, vae.dtype, memory_format=torch.channels_last))
