"""Pictures of a model in training, to be looked at."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Conditioning, Engine, ImageDone, ImageFailed, Job
from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet
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
    """One picture (uint8 `h w 3`) for each row of tokens; `empty` is the row of the empty prompt. Drawn where the networks are.

    Raises the error of the first picture that failed: NumericalError, for one, where the weights are damaged.
    """
    plan = scheduler_from_config(scheduler)
    levels = plan.levels(steps)
    count, side = len(tokens), unet.config.sample_size
    shape = (unet.config.in_channels, side, side)
    uncond = Conditioning(text_encoder(empty.to(unet.device)).hidden[0])
    # The whole sheet in one batch: nobody waits for a single picture of it, nor needs it to the last bit.
    engine = Engine(unet, max_rows=2 * count)
    tickets: list[int] = []
    for index, context in enumerate(text_encoder(tokens.to(unet.device)).hidden):
        noise = NoiseSource(seed, shape, index=index, count=count)
        job = Job(
            sampling=plan.start(noise.draw() * plan.initial_scale(levels), levels, noise.draw),
            steps=steps,
            conditionings={"uncond": uncond, "cond": Conditioning(context)},
            guidance=Guidance(scale=guidance_scale),
            timestep=lambda sigma: levels.timestep(sigma, plan.noise_schedule),
            prediction=plan.prediction_type,
        )
        tickets.append(engine.submit(job))
    finished: dict[int, Tensor] = {}
    try:
        for event in engine.run():
            if isinstance(event, ImageFailed):
                raise event.error
            if isinstance(event, ImageDone):
                finished[event.image] = event.x
    finally:
        engine.close()
    latents = torch.stack([finished[ticket] for ticket in tickets]) * plan.final_scale(levels)
    return to_pictures(vae.decode(latents.to(vae.device) / vae.config.scaling_factor)).cpu()
