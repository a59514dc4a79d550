"""From finished latents to pictures of 8 bits."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.engine.evaluators import Evaluation, decoder_task
from sfumato.engine.health import first_nonfinite_layer, is_finite
from sfumato.engine.memory import Economy
from sfumato.errors import NumericalError, OptionError
from sfumato.images import to_pil
from sfumato.models.convolution import NOWHERE, Axes, wrapping
from sfumato.models.tiny_vae import TinyVAEConfig
from sfumato.models.vae import AutoencoderKL, VAEConfig
from sfumato.pipeline.parts import unwrapped
from sfumato.recipe import Rounding


class Decoder:
    """Decodes latents one image at a time, so that memory stays that of one and no image depends on another.

    `tiled` decodes large pictures in tiles, eagerly; so does an `economy` that asks for it, or comes to when memory runs out; `evaluation`
    says what evaluates whole ones. Along `axes` the picture wraps. An autoencoder that overflows in float16, as SDXL's does, is computed in
    float32 from then on, in a copy; `widened` says so. `recorded` is what a recipe says of an autoencoder that is not the model's own.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        *,
        tiled: bool = False,
        axes: Axes = NOWHERE,
        economy: Economy | None = None,
        recorded: Mapping[str, Any] | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._vae = vae
        self._wide: AutoencoderKL | None = None
        self._tiled = tiled
        self.recorded = recorded or {}
        self._axes = axes
        self.evaluation = evaluation or Evaluation()
        self._economy = economy or Economy()

    @property
    def tiled(self) -> bool:
        """Whether pictures are decoded in tiles."""
        return self._tiled or self._economy.measures.tiles

    @property
    def tile(self) -> int | None:
        """Latents along the edge of a tile where memory is short; None for the usual one."""
        return small_tile(self._vae.config) if self._economy.measures.tiles else None

    @property
    def widened(self) -> bool:
        """Whether float16 did not suffice."""
        return self._wide is not None

    def pixels(self, latents: Tensor) -> Tensor:
        """Pixels `3 h w` in [-1, 1], float32 on the CPU, of `channels h/f w/f` latents.

        Raises NumericalError, with the layer, if the pixels are not finite: a black image is never passed on.
        """
        return self._economy.trying(lambda: self._pixels(latents))

    def _pixels(self, latents: Tensor) -> Tensor:
        vae = self._wide or self._vae
        pixels = self._decode(vae, latents)
        if not is_finite(pixels) and is_finite(latents) and vae.dtype == torch.float16:
            vae = self._wide = copy.deepcopy(unwrapped(self._vae)).to(torch.float32)
            pixels = self._decode(vae, latents)
        if not is_finite(pixels):
            raise self._diagnosis(vae, latents)
        return pixels[0].to("cpu", torch.float32).clamp(-1, 1)

    def _decode(self, vae: AutoencoderKL, latents: Tensor) -> Tensor:
        unscaled = unscale(vae, latents)
        with torch.no_grad(), wrapping(self._axes, vae):
            if self.tiled:
                return vae.decode_tiled(unscaled, self.tile)
            return self.evaluation(decoder_task(vae, unscaled))

    def _diagnosis(self, vae: AutoencoderKL, latents: Tensor) -> NumericalError:
        unscaled = unscale(vae, latents)
        if not is_finite(unscaled):
            return NumericalError("the finished latents hold NaN or infinity, so there is no picture to decode")
        with torch.no_grad():
            layer = first_nonfinite_layer(vae, lambda: vae.decode_whole(unscaled))
        dtype = str(unscaled.dtype).removeprefix("torch.")
        hint = (
            "the weights are damaged"
            if unscaled.dtype == torch.float32
            else "decode in float32: pipe.vae.to(torch.float32)"
        )
        return NumericalError(f"NaN or infinity arose in VAE layer {layer!r}, computing in {dtype}; {hint}")


def small_tile(config: VAEConfig | TinyVAEConfig) -> int | None:
    """Latents along a tile's edge where memory is short: a quarter of a picture of training. None for autoencoders that take no tiles."""
    if not isinstance(config, VAEConfig):
        return None
    return max(config.sample_size // 2 ** (len(config.channels) - 1) // 4, 1)


def unscale(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents as the autoencoder has them, in a batch of one, where it is and in its dtype."""
    # Channels last, as oneDNN computes: it would copy every map twice otherwise.
    unscaled = (latents / vae.config.scaling_factor)[None]
    return unscaled.to(vae.device, vae.dtype, memory_format=torch.channels_last)


class ImageProcessor:
    """Turns decoded pixels into pictures: what `pipe.image_processor.postprocess` does in notebooks that decode latents themselves."""

    def postprocess(
        self, image: Tensor, output_type: str = "pil", do_denormalize: Sequence[bool] | None = None
    ) -> list[Image.Image] | np.ndarray | Tensor:
        """Pictures of `n 3 h w` pixels in [-1, 1], as PIL images, an `n h w 3` array or an `n 3 h w` tensor in [0, 1].

        `do_denormalize` says for each picture whether its pixels are in [-1, 1]; those that aren't are in [0, 1] already.
        Raises OptionError for another shape or output type.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise OptionError(f"postprocess takes pixels n 3 h w, not {tuple(image.shape)}")
        denormalized = [True] * len(image) if do_denormalize is None else list(do_denormalize)
        pixels = image.detach().to("cpu", torch.float32)
        unit = torch.stack([to_unit(p) if on else p for p, on in zip(pixels, denormalized, strict=True)])
        match output_type:
            case "pt":
                return unit
            case "np":
                return unit.permute(0, 2, 3, 1).numpy()
            case "pil":
                return [to_pil(to_bytes(p * 2 - 1)) for p in unit]
            case _:
                raise OptionError(f'output_type must be "pil", "np" or "pt", not {output_type!r}')


def to_unit(pixels: Tensor) -> Tensor:
    """Pixels from [-1, 1] to [0, 1], as `output_type="pt"` and `"np"` hand them out."""
    return (pixels / 2 + 0.5).clamp(0, 1)


def to_bytes(pixels: Tensor, rounding: Rounding = "nearest") -> np.ndarray:
    """`h w 3` uint8 of `3 h w` pixels in [-1, 1], rounded to nearest, or down."""
    levels = to_unit(pixels).permute(1, 2, 0).numpy() * 255
    return (levels if rounding == "down" else levels.round()).astype(np.uint8)
