"""What the base model is trained on: levels, batches, latents, averages."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sfumato.errors import TrainingError, UnknownNameError
from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.text import Tokenizer
from sfumato.training.average import MovingAverage
from sfumato.training.base_config import NoiseLevels, TextSizes
from sfumato.training.data import read_dataset
from sfumato.training.latents import encode, normalise, statistics_of
from sfumato.training.run import shuffled, step_generator
from sfumato.training.tokens import text_config, tokenizer_for


def small_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(VAEConfig(channels=(8, 8, 8), blocks_per_level=1, norm_groups=4, scaling_factor=1.0)).eval()


def test_normalised_latents_have_unit_variance_and_the_same_pixels(toy_data):
    vae = small_vae()
    pictures = torch.from_numpy(read_dataset(toy_data).on_white())
    with torch.no_grad():
        before = vae.decode(encode(vae, pictures))
        logvar = vae.encode(torch.zeros(1, 3, 16, 16)).logvar
        std = encode(vae, pictures).std((0, 2, 3))
        normalise(vae, statistics_of(vae, pictures))
        after = vae.decode(encode(vae, pictures))
        latents = encode(vae, pictures)
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
        moved = vae.encode(torch.zeros(1, 3, 16, 16)).logvar
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved, logvar - 2 * std.log()[None, :, None, None], atol=1e-3, rtol=1e-3)


def test_unit_variance_is_that_of_scaled_latents(toy_data):
    vae = small_vae()
    vae.config = replace(vae.config, scaling_factor=0.5)
    pictures = torch.from_numpy(read_dataset(toy_data).on_white())
    before = vae.decode(encode(vae, pictures) / 0.5)
    normalise(vae, statistics_of(vae, pictures))
    latents = encode(vae, pictures)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(vae.decode(latents / 0.5), before, atol=1e-4, rtol=1e-4)


def test_constant_channel_can_not_be_normalised(toy_data):
    vae = small_vae()
    with torch.no_grad():
        vae.quant_conv.weight[2] = 0
    with pytest.raises(TrainingError, match="channel 2 of"):
        statistics_of(vae, torch.from_numpy(read_dataset(toy_data).on_white()))


def test_levels_are_drawn_around_the_mean_and_now_and_then_anywhere():
    levels = NoiseLevels(log_mean=0.0, log_std=0.5, uniform=0.0)
    sigmas = levels.schedule().sigmas
    drawn = sigmas[levels.draw(4000, sigmas, step_generator(0, 0))].log()
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.05)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.05)
    anywhere = NoiseLevels(uniform=1.0).draw(4000, sigmas, step_generator(0, 1))
    assert anywhere.float().mean().item() == pytest.approx(499.5, abs=20)
    assert anywhere.min() >= 0
    assert anywhere.max() <= 999


def test_mean_level_moves_over_the_run():
    levels = NoiseLevels(log_mean=2.0, log_mean_end=-1.0, log_std=0.3, uniform=0.0)
    sigmas = levels.schedule().sigmas
    for done, mean in ((0.0, 2.0), (0.5, 0.5), (1.0, -1.0)):
        drawn = sigmas[levels.draw(4000, sigmas, step_generator(0, 0), done)].log()
        assert drawn.mean().item() == pytest.approx(mean, abs=0.05)
    still = NoiseLevels(log_mean=2.0)
    assert torch.equal(still.draw(9, sigmas, step_generator(0, 0), 0.9), still.draw(9, sigmas, step_generator(0, 0)))


def test_the_last_level_is_almost_nothing_but_noise():
    assert NoiseLevels().schedule().sigmas[-1].item() == pytest.approx(65.93, abs=0.01)


def test_unknown_noise_schedule_is_said():
    with pytest.raises(UnknownNameError, match="scaled_linear"):
        NoiseLevels(kind="scaled-linear").schedule()


def test_every_picture_comes_once_a_pass_and_each_pass_has_its_order():
    passes = shuffled(7, 0, 21, seed=3).reshape(3, 7)
    assert [sorted(p.tolist()) for p in passes] == [list(range(7))] * 3
    assert len({tuple(p.tolist()) for p in passes}) == 3
    assert torch.equal(shuffled(7, 5, 6, seed=3), passes.flatten()[5:11])


def test_passes_are_longer_or_shorter_than_a_batch():
    assert sorted(shuffled(3, 0, 9, seed=1).tolist()) == sorted([0, 1, 2] * 3)
    assert torch.equal(shuffled(3, 0, 9, seed=1)[4:6], shuffled(3, 4, 2, seed=1))


def test_average_starts_short_and_then_keeps_its_decay():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = MovingAverage(module, 0.9)
    nn.init.ones_(module.weight)
    average.update(module, 0)
    assert average.weights["weight"].item() == pytest.approx(0.9)
    average.update(module, 1000)
    assert average.weights["weight"].item() == pytest.approx(0.91)


def test_tokenizer_of_texts_splits_them_as_clip_does():
    texts = ["a black cat's claw, 3d-style", "an eight-ball on 100% teal", "Straße № 7"]
    whole, reduced = Tokenizer.bundled_clip(), tokenizer_for(texts, TextSizes(max_length=40, base_merges=0))
    assert [reduced.tokenize(text) for text in texts] == [whole.tokenize(text) for text in texts]


def test_tokenizer_knows_the_captions_words_and_is_short():
    tokenizer = tokenizer_for(["rocket", "a red apple"], TextSizes(max_length=8, base_merges=0))
    tokens = tokenizer.encode("rocket")
    assert tokens.kept == 1
    assert len(tokens.ids) == 8
    assert tokenizer.vocab_size < 1000
    config = text_config(TextSizes(max_length=8), tokenizer)
    assert config.vocab_size == tokenizer.vocab_size
    assert config.eos_token_id == tokenizer.end_id
