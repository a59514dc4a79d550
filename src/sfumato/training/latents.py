"""Latents to train on: made once, and brought to zero mean and unit variance by the autoencoder's own weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL
from sfumato.training.vae import to_pixels

# Far below what an autoencoder uses (a channel it has given up on has about 1e-2) and above what rounding leaves of a constant.
_LEAST_STD = 1e-6


@dataclass(frozen=True, slots=True)
class LatentStatistics:
    """Mean and standard deviation of each channel of an autoencoder's latents, as it makes them, before its scaling factor."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor, batch: int = 64) -> Tensor:
    """The latents (modes, times the scaling factor) of uint8 pictures `n h w 3`: `n c h/scale w/scale`, on the autoencoder's device."""
    parts = [vae.encode(to_pixels(part.to(vae.device))).mode() for part in pictures.split(batch)]
    return torch.cat(parts).mul(vae.config.scaling_factor).contiguous()


def statistics_of(vae: AutoencoderKL, pictures: Tensor) -> LatentStatistics:
    """What `normalise` brings to zero and one, measured on these pictures.

    Raises TrainingError when a channel is the same for all of them: there is no variance to bring to one.
    """
    latents = encode(vae, pictures) / vae.config.scaling_factor
    mean, std = latents.mean((0, 2, 3)).tolist(), latents.std((0, 2, 3)).tolist()
    if dead := [channel for channel, value in enumerate(std) if not value > _LEAST_STD]:  # true for NaN too
        raise TrainingError(
            f"channel {', '.join(map(str, dead))} of the autoencoder's latents is the same for all pictures; train the autoencoder longer, "
            "or with a smaller loss.kl."
        )
    return LatentStatistics(tuple(mean), tuple(std))


@torch.no_grad()
def normalise(vae: AutoencoderKL, statistics: LatentStatistics) -> None:
    """Give latents of these statistics zero mean and unit variance in every channel, scaling factor included, pixels unchanged.

    The affine map and its inverse are folded into the 1 × 1 convolutions around the latents, so that any reader of the public layout
    sees well-scaled latents: one scaling factor for all channels, as in Rombach et al. 2022, section 4.3.2, does less.
    """
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into.bias is not None
    assert out.bias is not None
    mean, std = (torch.tensor(values, device=vae.device) for values in (statistics.mean, statistics.std))
    std = std * vae.config.scaling_factor  # of y below, so that y times the factor has unit variance
    channels = vae.config.latent_channels
    # out(z) = W z + b with z = std * y + mean; log variances move by -2 log std.
    out.bias += torch.einsum("oi...,i->o", out.weight, mean)
    out.weight *= std[None, :, None, None]
    into.weight[:channels] /= std[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()
