"""Computes the golden values; run it by hand, and look at the difference, when a picture is meant to change."""

import json
from pathlib import Path
from typing import Any

import torch

from sfumato.diffusion.conversation import run
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.prediction import denoised_from, network_scale
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.schedulers import SCHEDULERS, KDiffusionScheduler, Scheduler
from sfumato.text.tokenizer import Tokenizer

FILE = Path(__file__).with_name("values.json")
PROMPTS = ("a photograph of an astronaut riding a horse", "Café & crêpes — 5€, 🦊!", "it's  A   Test's test&amp;t")
SD1: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EXTRA: dict[str, dict[str, Any]] = {
    "PNDMScheduler": {"skip_prk_steps": True, "steps_offset": 1},
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    "DDPMScheduler": {"clip_sample": False},
}


# Under this key stand values of other processors than the one that records; they are put there by hand, and stay.
ELSEWHERE = "what other processors make of it"


def values() -> dict[str, Any]:
    """Token ids, the first noise of a seed, and where each scheduler's trajectory ends with a made-up network."""
    tokenizer = Tokenizer.bundled_clip()
    source = NoiseSource(42, (4, 8, 8))
    return {
        "tokens": {prompt: list(tokenizer.encode(prompt).ids[:24]) for prompt in PROMPTS},
        "noise of seed 42": [source.draw().flatten()[:4].tolist() for _ in range(2)],
        "latents after 7 steps": {
            name: trajectory_end(SCHEDULERS[name](**SD1, **EXTRA.get(name, {}))) for name in sorted(SCHEDULERS)
        },
        "latents after 7 steps as in the web UI": {
            name: trajectory_end(KDiffusionScheduler(sampler_name=name)) for name in sorted(SAMPLERS)
        },
    }


def trajectory_end(scheduler: Scheduler) -> list[float]:
    """The first latents a scheduler ends with when the network is a fixed nonlinear function."""
    levels = scheduler.levels(7)
    source = NoiseSource(7, (4, 8, 8))

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        timestep = levels.timestep(sigma, scheduler.noise_schedule)
        output = torch.tanh(1.3 * x * network_scale(sigma) + timestep / 1000)
        return denoised_from(output, x, sigma, scheduler.prediction_type)

    x = source.draw() * scheduler.initial_scale(levels)
    end = run(scheduler.start(x, levels, source.draw, path=source.path), denoise) * scheduler.final_scale(levels)
    return end.flatten()[:4].tolist()


if __name__ == "__main__":
    kept = {ELSEWHERE: json.loads(FILE.read_text(encoding="utf-8"))[ELSEWHERE]}
    FILE.write_text(json.dumps(values() | kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
