"""What is learned: v of noisy latents, captions now and then left out, and the autoencoder's loss, each against numbers made by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.models import CLIPTextConfig, UNetConfig
from sfumato.training.base import BaseModel, _Batches, tokenizer_for, tokens_of
from sfumato.training.base_config import BaseTrainConfig, TextSizes
from sfumato.training.data import read_dataset
from sfumato.training.data.augment import augment
from sfumato.training.vae import VAELoss, loss_of

UNET = UNetConfig(channels=(8,), attention=(True,), heads=(2,), depth=(1,), context_dim=8, norm_groups=4, sample_size=4)


class Answers(nn.Module):
    """A network that answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.asked = (x, timesteps, context)
        return self.answer


def model_that_answers(answer: Tensor) -> BaseModel:
    text = CLIPTextConfig(vocab_size=9, width=8, layers=1, heads=2, max_length=4, mlp_width=8, eos_token_id=8)
    model = BaseModel(UNET, text)
    model.unet = Answers(answer)
    return model


def test_loss_is_the_squared_error_of_v():
    # a = 0.8 and s = 0.6 at signal 0.64: x = 0.8 · 1 + 0.6 · 3 = 2.6 and v = 0.8 · 3 - 0.6 · 1 = 1.8.
    latents, noise = torch.full((1, 4, 4, 4), 1.0), torch.full((1, 4, 4, 4), 3.0)
    signal, timesteps, tokens = torch.tensor([0.64]), torch.tensor([7.0]), torch.zeros(1, 4, dtype=torch.long)
    for answer, expected in ((1.8, 0.0), (0.0, 3.24), (0.8, 1.0)):
        model = model_that_answers(torch.full((1, 4, 4, 4), answer))
        loss = model(latents, noise, signal, timesteps, tokens)
        assert loss.item() == pytest.approx(expected, abs=1e-6)
    x, asked, context = model.unet.asked
    torch.testing.assert_close(x, torch.full((1, 4, 4, 4), 2.6))
    assert torch.equal(asked, timesteps)
    assert torch.equal(context, model.text_encoder(tokens).hidden)


@pytest.mark.parametrize("dropout", [0.0, 0.25, 1.0])
def test_share_of_empty_prompts_is_guidance_dropout(toy_data: Path, dropout: float):
    data = read_dataset(toy_data)
    rows = data.where(captioned=True).tolist()
    config = BaseTrainConfig(
        images=1, batch=50, data="", vae="", unet=UNET, text=TextSizes(width=8, heads=2), guidance_dropout=dropout
    )
    tokenizer = tokenizer_for(data, config.text)
    batches = _Batches(data, torch.zeros(len(rows), 4, 4, 4), rows, tokenizer, config)
    drawn = torch.cat([batches(step)[-1] for step in range(40)])
    empty = (drawn == tokens_of(tokenizer, [""])).all(1)
    # Three standard deviations of a share of 2000.
    assert abs(empty.float().mean().item() - dropout) <= 3 * math.sqrt(dropout * (1 - dropout) / 2000)
    captions = {caption for i in rows for caption in data.records[i].captions}
    known = {tuple(row) for row in tokens_of(tokenizer, sorted(captions)).tolist()}
    assert {tuple(row) for row in drawn[~empty].tolist()} == (known if dropout < 1 else set())


def test_every_latent_comes_with_its_own_captions_and_signal(toy_data: Path):
    data = read_dataset(toy_data)
    rows = data.where(captioned=True).tolist()
    config = BaseTrainConfig(
        images=1, batch=8, data="", vae="", unet=UNET, text=TextSizes(width=8, heads=2), guidance_dropout=0.0
    )
    tokenizer = tokenizer_for(data, config.text)
    numbered = torch.arange(len(rows)).float()[:, None, None, None].expand(-1, 4, 4, 4)
    latents, noise, signal, timesteps, tokens = _Batches(data, numbered, rows, tokenizer, config)(0)
    for number, row in zip(latents[:, 0, 0, 0].int().tolist(), tokens.tolist(), strict=True):
        assert row in tokens_of(tokenizer, data.records[rows[number]].captions).tolist()
    assert torch.equal(signal, config.noise.schedule().alphas_cumprod[timesteps.long()])
    assert noise.std().item() == pytest.approx(1, abs=0.15)


def test_autoencoder_loss_is_the_weighted_sum_of_its_terms():
    # Errors 0 2 / 0 0: L1 0.5, squared 1, differences down |-2|, 0 → 1 and across 2, 0 → 1.
    output, target = torch.tensor([[[[0.0, 3.0], [0.0, 1.0]]]]), torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    # KL of N(2, e) from N(0, 1): (4 + e - 1 - 1) / 2.
    mean, logvar = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1)
    terms = {"l1": 0.5, "squared": 1.0, "gradient": 2.0, "kl": (2 + math.e) / 2}
    nothing = dict.fromkeys(terms, 0.0)
    for name, expected in terms.items():
        loss = loss_of(output, target, mean, logvar, VAELoss(**(nothing | {name: 1.0})))
        assert loss.item() == pytest.approx(expected), name
    weights = VAELoss(l1=1, squared=2, gradient=3, kl=4)
    assert loss_of(output, target, mean, logvar, weights).item() == pytest.approx(0.5 + 2 + 6 + 2 * (2 + math.e))


@pytest.mark.parametrize("colours", [False, True])
def test_white_grounds_stay_white(colours: bool):
    pixels = torch.ones(32, 3, 16, 16)
    pixels[:, :, 6:10, 6:10] = torch.tensor([0.9, -0.2, -0.7])[:, None, None]
    varied = augment(pixels, torch.Generator().manual_seed(0), colours=colours)
    assert varied.shape == pixels.shape
    art = (varied != 1).any(1)
    assert art.flatten(1).sum(1).tolist() == [16] * 32  # the square, wherever it was moved; all else is white
    values = {tuple(sorted(v)) for v in varied.permute(0, 2, 3, 1)[art].tolist()}
    assert values == {tuple(sorted(torch.tensor([0.9, -0.2, -0.7]).tolist()))}
