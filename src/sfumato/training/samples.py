"""Pictures of a model in training, to be looked at."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.conversation import run
from sfumato.diffusion.guidance import Guidance, Row
from sfumato.diffusion.prediction import denoised_from, network_scale
from sfumato.models import AutoencoderKL, CLIPTextEncoder, KeysValues, UNet
from sfumato.schedulers import scheduler_from_config
from sfumato.training.vae import to_pictures


@torch.no_grad()
def draw(
    unet: UNet,
    text_encoder: CLIPTextEncoder,
    vae: AutoencoderKL,
    tokens: Tensor,
    empty: Tensor,
    *,
    scheduler: Mapping[str, Any],
    steps: int = 20,
    guidance_scale: float = 3.0,
    seed: int = 0,
) -> Tensor:
    """One picture (uint8 `h w 3`) for each row of tokens; `empty` is the row of the empty prompt.

    The whole sheet goes through one sampler at a time, as all its pictures are wanted and none is waited for.
    """
    plan = scheduler_from_config(scheduler)
    levels = plan.levels(steps)
    guidance = Guidance(scale=guidance_scale)
    count, side = len(tokens), unet.config.sample_size
    cond = unet.keys_values(text_encoder(tokens).hidden)
    uncond = unet.keys_values(text_encoder(empty.expand(count, -1)).hidden)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        timesteps = torch.full((count,), levels.timestep(sigma, plan.noise_schedule))
        scaled = x * network_scale(sigma)
        contexts: dict[Row, KeysValues] = {"uncond": uncond, "cond": cond}
        answers: dict[Row, Tensor] = {
            row: denoised_from(unet(scaled, timesteps, contexts[row]), x, sigma, plan.prediction_type)
            for row in guidance.rows()
        }
        return guidance.answer(answers)

    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((count, unet.config.in_channels, side, side), generator=generator)
    sampling = plan.start(
        noise * plan.initial_scale(levels), levels, lambda: torch.randn(noise.shape, generator=generator)
    )
    latents = run(sampling, denoise) * plan.final_scale(levels)
    return to_pictures(vae.decode(latents / vae.config.scaling_factor))
