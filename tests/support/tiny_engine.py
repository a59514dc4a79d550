"""A tiny random U-Net, and a job for it, for the engine's tests."""

import torch

from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Conditioning, Job
from sfumato.models.unet import UNet, UNetConfig
from sfumato.schedulers import EulerDiscreteScheduler

TINY = UNetConfig(
    channels=(8, 16), blocks_per_level=1, attention=(True, False), heads=(2, 2), depth=(1, 1), context_dim=12, norm_groups=4, sample_size=8
)  # fmt: skip
EULER = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def network() -> UNet:
    torch.manual_seed(0)
    unet = UNet(TINY).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.normal_(std=0.2)
    return unet


def job(seed: int = 1, steps: int = 3) -> Job:
    levels = EULER.levels(steps)
    source = NoiseSource(seed, (4, 8, 8))
    x = source.draw() * EULER.initial_scale(levels)

    def context(seed: int) -> Conditioning:
        return Conditioning(torch.randn(5, 12, generator=torch.Generator().manual_seed(seed)))

    return Job(
        sampling=EULER.start(x, levels, source.draw, eta=0.0, path=source.path),
        steps=steps,
        conditionings={"cond": context(seed), "uncond": context(100)},
        guidance=Guidance(scale=3.0),
        timestep=lambda sigma: levels.timestep(sigma, EULER.noise_schedule),
        prediction="epsilon",
    )
