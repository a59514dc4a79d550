"""What text encoder and U-Net learn from: batches of noisy latents with captions, and the loss."""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.models import CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig
from sfumato.text import Tokenizer
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.immiscible import nearest_noise
from sfumato.training.run import shuffled, step_generator
from sfumato.training.scene_set import SceneSet
from sfumato.training.tokens import caption_tokens, tokens_of

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Latents and noise, `b c h w`, alphas_cumprod and timesteps, `b`, and token ids, `b max_length`."""


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

    The first steps, as many as the config's `halved` says, are of pictures of half the side, four times as many. Latents and tokens lie on
    the device, where noise is drawn too. `tokens` are those of the captions, where they are known.
    """

    def __init__(
        self,
        scenes: SceneSet,
        tokenizer: Tokenizer,
        config: BaseTrainConfig,
        device: torch.device | str = "cpu",
        tokens: Tensor | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.latents = scenes.latents.to(device)
        self.halves = None if scenes.halves is None else scenes.halves.to(device)
        self.tokens = (caption_tokens(tokenizer, scenes.captions) if tokens is None else tokens).to(device)
        self.empty = tokens_of(tokenizer, [""])[0].to(device)
        schedule = config.noise.schedule()
        self.alphas_cumprod, self.sigmas = schedule.alphas_cumprod.to(device), schedule.sigmas.to(device)

    def __call__(self, step: int, done: float = 0.0) -> Batch:
        """Latents, noise, signal, timesteps and tokens of a step; `done` is the share of the run behind it."""
        config, device = self.config, self.device
        generator = step_generator(config.seed, step, "batch", device)
        known, count, halved = self.latents, config.batch, False
        if self.halves is not None and done < config.halved:
            known, count, halved = self.halves, 4 * config.batch, True
        rows = shuffled(len(known), step * count, count, config.seed, device)
        chance = torch.rand((2, count), generator=generator, device=device)
        wordings = (chance[1] * self.tokens.shape[1]).long()
        tokens = self.tokens[rows, wordings].long()
        tokens = torch.where((chance[0] < config.guidance_dropout)[:, None], self.empty, tokens)
        timesteps = config.noise.draw(count, self.sigmas, generator, done, halved=halved)
        latents = known[rows].float()
        noise = torch.randn(latents.shape, generator=generator, device=device)
        if config.immiscible:
            noise = nearest_noise(latents, noise)
        return latents, noise, self.alphas_cumprod[timesteps], timesteps.float(), tokens
