"""Latents to train on: made once, and brought to zero mean and unit variance by the autoencoder's own weights."""

import torch
from torch import Tensor

from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL
from sfumato.training.vae import to_pixels

# Far below what an autoencoder uses (a channel it has given up on has about 1e-2) and above what rounding leaves of a constant.
_LEAST_STD = 1e-6


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor, batch: int = 64) -> Tensor:
    """The latents (modes, times the scaling factor) of uint8 pictures `n h w 3`: `n c h/scale w/scale`."""
    parts = [vae.encode(to_pixels(part)).mode() for part in pictures.split(batch)]
    return torch.cat(parts).mul(vae.config.scaling_factor).contiguous()


@torch.no_grad()
def normalise(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Give the latents of these pictures, scaling factor included, zero mean and unit variance in every channel, pixels unchanged.

    The affine map and its inverse are folded into the 1 × 1 convolutions around the latents, so that any reader of the public layout
    sees well-scaled latents: one scaling factor for all channels, as in Rombach et al. 2022, section 4.3.2, does less.
    Raises TrainingError when a channel is the same for all pictures: there is no variance to bring to one.
    """
    factor = vae.config.scaling_factor
    latents = encode(vae, pictures) / factor
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    if dead := [channel for channel, value in enumerate(std.tolist()) if not value > _LEAST_STD]:  # true for NaN too
        raise TrainingError(
            f"channel {', '.join(map(str, dead))} of the autoencoder's latents is the same for all pictures; train the autoencoder longer, "
            "or with a smaller loss.kl."
        )
    std = std * factor  # of y below, so that y times the factor has unit variance
    channels = vae.config.latent_channels
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into.bias is not None
    assert out.bias is not None
    # out(z) = W z + b with z = std * y + mean; log variances move by -2 log std.
    out.bias += torch.einsum("oi...,i->o", out.weight, mean)
    out.weight *= std[None, :, None, None]
    into.weight[:channels] /= std[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()
