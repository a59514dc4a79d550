"""Requests in flight together: all are carried out, and the last to arrive is soon served."""

import torch

from bench.peers.sfumato_requests import WANTED, drive, in_flight
from bench.worker import Setting
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Conditioning, Engine, Job
from sfumato.models.unet import UNet, UNetConfig
from sfumato.schedulers import EulerDiscreteScheduler

TINY = UNetConfig(
    channels=(8, 16), blocks_per_level=1, attention=(True, False), heads=(2, 2), depth=(1, 1), context_dim=12, norm_groups=4,
    sample_size=8,
)  # fmt: skip
EULER = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


class Pipe:
    """As much of a pipeline as requests are made of."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.unet, self.scheduler = UNet(TINY).eval().requires_grad_(False), EULER

    def encode_prompt(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((1, 5, 12), len(prompt) / 100), torch.zeros(1, 5, 12)


def job(steps: int) -> Job:
    levels, source = EULER.levels(steps), NoiseSource(0, (4, 8, 8))
    return Job(
        sampling=EULER.start(source.draw() * EULER.initial_scale(levels), levels, source.draw, path=source.path),
        steps=steps,
        conditionings={name: Conditioning(torch.zeros(5, 12)) for name in ("cond", "uncond")},
        guidance=Guidance(scale=5.0),
        timestep=lambda sigma: levels.timestep(sigma, EULER.noise_schedule),
        prediction="epsilon",
    )


def test_the_last_to_arrive_has_its_first_step_within_two_of_the_others() -> None:
    assert 1 <= drive(Engine(Pipe().unet), [job(6), job(4), job(5)], job(2)) <= 2


def test_one_that_comes_when_the_others_have_done_waits_for_nobody() -> None:
    assert drive(Engine(Pipe().unet), [job(1)], job(1)) == 0


def test_together_and_one_by_one_are_both_timed() -> None:
    figures = in_flight(Pipe(), Setting(task="requests", size=64, requests=len(WANTED) + 1, repeats=2))
    assert figures.keys() == {"seconds", "each", "one by one", "of one by one", "steps waited"}
    assert len(figures["each"]) == 2
    assert figures["steps waited"] <= 2
    assert figures["seconds"] > 0
