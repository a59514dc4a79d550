"""What text encoder and U-Net learn from: batches of noisy latents with captions, and the loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models import CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig
from sfumato.text import Tokenizer
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.immiscible import nearest_noise
from sfumato.training.run import shuffled, step_generator
from sfumato.training.scene_set import SceneSet
from sfumato.training.tokens import tokens_of


class BaseModel(nn.Module):
    """The text encoder and the U-Net that reads it, as one module: one optimizer, one average."""

    def __init__(self, unet: UNetConfig, text: CLIPTextConfig, min_snr: float | None = None) -> None:
        super().__init__()
        self.text_encoder = CLIPTextEncoder(text)
        self.unet = UNet(unet)
        self.min_snr = min_snr

    def forward(self, latents: Tensor, noise: Tensor, signal: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The loss of a batch: squared error of v. `signal` is alphas_cumprod at the timesteps. Source: Salimans & Ho 2022, appendix D.

        With `min_snr` (gamma) each picture counts min(SNR, gamma) / (SNR + 1) times. Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
        """
        a, s = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
        v = self.unet(a * latents + s * noise, timesteps, self.text_encoder(tokens).hidden).float()
        target = a * noise - s * latents
        if self.min_snr is None:
            return F.mse_loss(v, target)
        # SNR = signal / (1 - signal), so 1 / (SNR + 1) = 1 - signal, which is never 0 in a noise schedule.
        weight = torch.minimum(signal, self.min_snr * (1 - signal))
        return (F.mse_loss(v, target, reduction="none").mean((1, 2, 3)) * weight).mean()


class Batches:
    """Batch of a step: latents, noise, timesteps and tokens, every scene once a pass, each time under one of its captions, drawn anew.

    Latents and tokens lie on the device, where noise is drawn too.
    """

    def __init__(
        self, scenes: SceneSet, tokenizer: Tokenizer, config: BaseTrainConfig, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.latents = scenes.latents.to(device)
        # One id row for each caption, small integers: there may be hundreds of thousands.
        self.tokens = torch.stack(
            [
                torch.tensor([tokenizer.encode(text).ids for text in texts], dtype=torch.int32)
                for texts in scenes.captions
            ]
        ).to(device)
        self.empty = tokens_of(tokenizer, [""])[0].to(device)
        schedule = config.noise.schedule()
        self.alphas_cumprod, self.sigmas = schedule.alphas_cumprod.to(device), schedule.sigmas.to(device)

    def __call__(self, step: int, done: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Latents, noise, signal, timesteps and tokens of a step; `done` is the share of the run behind it."""
        config, device = self.config, self.device
        generator = step_generator(config.seed, step, "batch", device)
        rows = shuffled(len(self.latents), step * config.batch, config.batch, config.seed).to(device)
        chance = torch.rand((2, config.batch), generator=generator, device=device)
        wordings = (chance[1] * self.tokens.shape[1]).long()
        tokens = self.tokens[rows, wordings].long()
        tokens = torch.where((chance[0] < config.guidance_dropout)[:, None], self.empty, tokens)
        timesteps = config.noise.draw(config.batch, self.sigmas, generator, done)
        latents = self.latents[rows].float()
        noise = torch.randn(latents.shape, generator=generator, device=device)
        if config.immiscible:
            noise = nearest_noise(latents, noise)
        return latents, noise, self.alphas_cumprod[timesteps], timesteps.float(), tokens
