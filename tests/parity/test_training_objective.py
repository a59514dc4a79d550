"""What the base run trains on is what diffusers' schedulers say: the same noisy latents, and the same v."""

import diffusers
import pytest
import torch
from torch import Tensor, nn

from sfumato.models import CLIPTextConfig, UNetConfig
from sfumato.training.base_config import NoiseLevels
from sfumato.training.objective import BaseModel


class Answers(nn.Module):
    """A network that answers what it is told to, and keeps the latents that it was shown."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.shown = x
        return self.answer


def test_noisy_latents_and_v_are_diffusers():
    levels = NoiseLevels()
    reference = diffusers.DDPMScheduler(
        beta_start=levels.beta_start,
        beta_end=levels.beta_end,
        beta_schedule=levels.kind,
        prediction_type="v_prediction",
    )
    generator = torch.Generator().manual_seed(0)
    timesteps = torch.tensor([0, 1, 400, 800, 998, 999])
    latents, noise = (torch.randn(6, 4, 4, 4, generator=generator) for _ in range(2))
    unet = UNetConfig(channels=(8,), attention=(True,), heads=(2,), depth=(1,), context_dim=8, norm_groups=4)
    text = CLIPTextConfig(vocab_size=9, width=8, layers=1, heads=2, max_length=4, mlp_width=8, eos_token_id=8)
    model = BaseModel(unet, text)
    model.unet = Answers(reference.get_velocity(latents, noise, timesteps))
    signal = levels.schedule().alphas_cumprod[timesteps]
    loss = model(latents, noise, signal, timesteps.float(), torch.zeros(6, 4, dtype=torch.long))
    torch.testing.assert_close(model.unet.shown, reference.add_noise(latents, noise, timesteps), atol=1e-5, rtol=1e-5)
    assert loss.item() == pytest.approx(0, abs=1e-10)
