"""What is learned: v of noisy latents, captions now and then left out, and the autoencoder's loss, each against numbers made by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sfumato.models import CLIPTextConfig, UNetConfig
from sfumato.text import Tokenizer
from sfumato.training.base_config import BaseTrainConfig, NoiseLevels, TextSizes
from sfumato.training.objective import BaseModel, Batches
from sfumato.training.scene_set import SceneSet
from sfumato.training.tokens import tokenizer_for, tokens_of
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


@pytest.mark.parametrize(("signal", "weight"), [(0.64, 0.64), (0.99, 5 * 0.01), (0.01, 0.01)])
def test_min_snr_weighs_each_picture(signal: float, weight: float):
    # min(SNR, 5) / (SNR + 1): at signal 0.64 SNR is 1.78, at 0.99 it is 99, at 0.01 it is 0.0101.
    snr = signal / (1 - signal)
    assert min(snr, 5) / (snr + 1) == pytest.approx(weight)
    answer, latents, noise = (torch.randn(2, 4, 4, 4) for _ in range(3))
    plain, weighed = model_that_answers(answer), model_that_answers(answer)
    weighed.min_snr = 5.0
    batch = (latents, noise, torch.full((2,), signal), torch.zeros(2), torch.zeros(2, 4, dtype=torch.long))
    assert weighed(*batch).item() == pytest.approx(weight * plain(*batch).item(), rel=1e-5)


def scenes_of(count: int) -> SceneSet:
    """Latents that hold their own number, each with captions that say it."""
    numbered = torch.arange(count).half()[:, None, None, None].expand(-1, 4, 4, 4)
    return SceneSet(numbered, tuple((WORDS[i], f"a {WORDS[i]}") for i in range(count)))


WORDS = ("apple", "rocket", "castle", "guitar", "octopus", "penguin")


def batches_of(count: int, *, batch: int, dropout: float) -> tuple[SceneSet, Tokenizer, Batches]:
    config = BaseTrainConfig(
        images=1, batch=batch, data="", vae="", unet=UNET, text=TextSizes(width=8, heads=2), guidance_dropout=dropout
    )
    scenes = scenes_of(count)
    tokenizer = tokenizer_for([text for texts in scenes.captions for text in texts], config.text)
    return scenes, tokenizer, Batches(scenes, tokenizer, config)


@pytest.mark.parametrize("dropout", [0.0, 0.25, 1.0])
def test_share_of_empty_prompts_is_guidance_dropout(dropout: float):
    scenes, tokenizer, batches = batches_of(4, batch=50, dropout=dropout)
    drawn = torch.cat([batches(step)[-1] for step in range(40)])
    empty = (drawn == tokens_of(tokenizer, [""])).all(1)
    # Three standard deviations of a share of 2000.
    assert abs(empty.float().mean().item() - dropout) <= 3 * math.sqrt(dropout * (1 - dropout) / 2000)
    known = {tuple(row) for texts in scenes.captions for row in tokens_of(tokenizer, texts).tolist()}
    assert {tuple(row) for row in drawn[~empty].tolist()} == (known if dropout < 1 else set())


def test_every_latent_comes_once_a_pass_with_its_own_captions_and_signal():
    scenes, tokenizer, batches = batches_of(6, batch=6, dropout=0.0)
    for step in range(4):
        latents, noise, signal, timesteps, tokens = batches(step)
        numbers = latents[:, 0, 0, 0].int().tolist()
        assert sorted(numbers) == list(range(6))
        for number, row in zip(numbers, tokens.tolist(), strict=True):
            assert row in tokens_of(tokenizer, scenes.captions[number]).tolist()
        assert torch.equal(signal, batches.config.noise.schedule().alphas_cumprod[timesteps.long()])
        assert noise.std().item() == pytest.approx(1, abs=0.2)
        assert latents.dtype == noise.dtype == torch.float32


def test_step_is_the_same_whenever_it_is_taken():
    _, _, batches = batches_of(5, batch=3, dropout=0.5)
    _, _, again = batches_of(5, batch=3, dropout=0.5)
    later = [again(step) for step in (7, 2)]
    for step, drawn in zip((2, 7), reversed(later), strict=True):
        for one, other in zip(batches(step), drawn, strict=True):
            assert torch.equal(one, other)


def halving_batches() -> Batches:
    config = BaseTrainConfig(
        images=1,
        batch=64,
        data="",
        vae="",
        unet=replace(UNET, sample_size=8),
        text=TextSizes(width=8, heads=2),
        halved=0.5,
    )
    whole = torch.arange(4).half()[:, None, None, None].expand(-1, 4, 8, 8)
    scenes = SceneSet(whole, tuple((w,) for w in WORDS[:4]), 10 + whole[..., :4, :4])
    return Batches(scenes, tokenizer_for(WORDS, config.text), config)


def test_run_begins_with_four_times_as_many_pictures_of_half_the_side():
    batches = halving_batches()
    for done, count, side, first in ((0.0, 256, 4, 10), (0.49, 256, 4, 10), (0.5, 64, 8, 0), (1.0, 64, 8, 0)):
        latents, noise, signal, timesteps, tokens = batches(3, done)
        assert latents.shape == noise.shape == (count, 4, side, side)
        assert len(signal) == len(timesteps) == len(tokens) == count
        numbers = latents[:, 0, 0, 0].int() - first
        assert sorted(set(numbers.tolist())) == [0, 1, 2, 3]
        assert all(
            torch.equal(tokens[i], batches.tokens[n, 0].long())
            for i, n in enumerate(numbers.tolist())
            if tokens[i, 1] != tokens[i, 2]
        )


def test_half_the_side_is_trained_at_half_the_noise():
    levels = NoiseLevels(log_mean=0.5, log_mean_end=0.5, log_std=0.5, uniform=0.0)
    sigmas = levels.schedule().sigmas
    drawn = [
        sigmas[levels.draw(4000, sigmas, torch.Generator().manual_seed(0), halved=halved)].log().mean().item()
        for halved in (False, True)
    ]
    assert drawn[0] == pytest.approx(0.5, abs=0.02)
    assert drawn[0] - drawn[1] == pytest.approx(math.log(2), abs=0.02)


def test_noise_of_a_step_may_be_assigned_and_stays_the_same_noise():
    config = BaseTrainConfig(
        images=1, batch=4, data="", vae="", unet=UNET, text=TextSizes(width=8, heads=2), immiscible=True
    )
    scenes = SceneSet(torch.randn(4, 4, 4, 4).half(), tuple((w,) for w in WORDS[:4]))
    tokenizer = tokenizer_for(WORDS, config.text)
    latents, assigned, *_ = Batches(scenes, tokenizer, config)(0)
    same, plain, *_ = Batches(scenes, tokenizer, replace(config, immiscible=False))(0)
    assert torch.equal(latents, same)
    assert sorted(assigned.flatten(1).sum(1).tolist()) == sorted(plain.flatten(1).sum(1).tolist())
    assert (latents - assigned).square().sum() < (latents - plain).square().sum()


def test_autoencoder_loss_is_the_weighted_sum_of_its_terms():
    # Errors 0 2 / 0 0: L1 0.5, squared 1, differences down |-2|, 0 → 1 and across 2, 0 → 1.
    output, target = torch.tensor([[[[0.0, 3.0], [0.0, 1.0]]]]), torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    # Of the border, the corners twice: 0 2, 0 0, 0 0, 2 0 → 0.5.
    # KL of N(2, e) from N(0, 1): (4 + e - 1 - 1) / 2.
    mean, logvar = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1)
    terms = {"l1": 0.5, "squared": 1.0, "gradient": 2.0, "border": 0.5, "kl": (2 + math.e) / 2}
    nothing = dict.fromkeys(terms, 0.0)
    for name, expected in terms.items():
        loss = loss_of(output, target, mean, logvar, VAELoss(**(nothing | {name: 1.0})))
        assert loss.item() == pytest.approx(expected), name
    weights = VAELoss(l1=1, squared=2, gradient=3, kl=4, border=6)
    assert loss_of(output, target, mean, logvar, weights).item() == pytest.approx(0.5 + 2 + 6 + 3 + 2 * (2 + math.e))
