"""A run that goes on from a model begins where that model was, with more words, positions and layers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.checkpoints import save_folder
from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet, UNetConfig, VAEConfig
from sfumato.text import Tokenizer
from sfumato.training.base_config import BaseTrainConfig, TextSizes
from sfumato.training.start import autoencoder_of, is_model, take_over
from sfumato.training.tokens import text_config, tokenizer_for, tokens_of

SIZES = TextSizes(width=8, layers=1, heads=2, max_length=8, base_merges=0)
MORE = replace(SIZES, layers=3, max_length=12)
UNET = UNetConfig(
    channels=(8, 8), blocks_per_level=1, attention=(False, True), heads=(2, 2), depth=(1, 1), context_dim=8, norm_groups=4, sample_size=4
)  # fmt: skip
OLD_WORDS = ["a red apple", "rocket"]
NEW_WORDS = ["an aubergine", "a red apple", "a zebra crossing", "rocket"]


def networks(sizes: TextSizes, words: list[str], unet: UNetConfig = UNET) -> tuple[UNet, CLIPTextEncoder, Tokenizer]:
    tokenizer = tokenizer_for(words, sizes)
    return UNet(unet).eval(), CLIPTextEncoder(text_config(sizes, tokenizer)).eval(), tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unet, text, tokenizer = networks(SIZES, OLD_WORDS)
    vae = AutoencoderKL(VAEConfig(channels=(8, 8), blocks_per_level=1, norm_groups=4))
    base = BaseTrainConfig(images=1, batch=1, data="", vae="", unet=UNET, text=SIZES)
    folder = tmp_path_factory.mktemp("model") / "it"
    save_folder(
        folder, unet=unet, vae=vae, text_encoder=text, tokenizer_files=tokenizer.save, scheduler_config=base.scheduler_config(),
        dtype=torch.float32,
    )  # fmt: skip
    return folder


@torch.no_grad()
def test_grown_networks_answer_as_the_model_did(model):
    # Made anew from the same seed, these are the networks of the model.
    torch.manual_seed(0)
    unet, text, tokenizer = networks(SIZES, OLD_WORDS)
    torch.manual_seed(1)
    grown_unet, grown_text, grown_tokenizer = networks(MORE, NEW_WORDS)
    assert grown_tokenizer.vocab_size > tokenizer.vocab_size
    take_over(model, grown_unet, grown_text, grown_tokenizer)

    before, after = (
        text(tokens_of(tokenizer, OLD_WORDS)).hidden,
        grown_text(tokens_of(grown_tokenizer, OLD_WORDS)).hidden,
    )
    torch.testing.assert_close(after[:, : SIZES.max_length], before, atol=1e-6, rtol=1e-6)
    x, timesteps = torch.randn(2, 4, 4, 4), torch.tensor([3.0, 900.0])
    torch.testing.assert_close(grown_unet(x, timesteps, before), unet(x, timesteps, before))


@torch.no_grad()
def test_a_text_that_is_pooled_for_every_layer_from_now_on_changes_nothing_yet(model):
    torch.manual_seed(0)
    unet, text, tokenizer = networks(SIZES, OLD_WORDS)
    grown, grown_text, _ = networks(SIZES, OLD_WORDS, replace(UNET, text_heads=2))
    take_over(model, grown, grown_text, tokenizer)
    context = text(tokens_of(tokenizer, OLD_WORDS)).hidden
    x, timesteps = torch.randn(2, 4, 4, 4), torch.tensor([3.0, 900.0])
    torch.testing.assert_close(grown(x, timesteps, context), unet(x, timesteps, context))
    assert grown.text_embedding is not None
    assert grown.text_embedding.proj.weight.abs().max() > 0


def test_new_words_and_layers_can_learn(model):
    torch.manual_seed(1)
    _, fresh, _ = networks(MORE, NEW_WORDS)
    torch.manual_seed(1)
    unet, text, tokenizer = networks(MORE, NEW_WORDS)
    take_over(model, unet, text, tokenizer)
    new = [i for word, i in tokenizer.spec.vocabulary.ids.items() if "zebra" in word]
    assert new
    assert torch.equal(text.token_embedding.weight[new], fresh.token_embedding.weight[new])
    assert torch.equal(text.position_embedding.weight[8:], fresh.position_embedding.weight[8:])
    text(tokens_of(tokenizer, NEW_WORDS)).hidden.square().sum().backward()
    for name, weight in text.named_parameters():
        if name.endswith(("to_out.weight", "mlp_out.weight")):
            assert weight.grad is not None
            assert weight.grad.abs().max() > 0, f"{name} is stuck at zero"


def test_fewer_layers_or_words_of_the_model_are_no_misfit_of_words(model):
    unet, text, tokenizer = networks(SIZES, ["rocket"])
    take_over(model, unet, text, tokenizer)
    assert torch.isfinite(text(tokens_of(tokenizer, ["rocket"])).hidden).all()


@pytest.mark.parametrize(
    ("sizes", "unet", "what"),
    [
        (replace(SIZES, width=12), replace(UNET, context_dim=12), "to_k.weight"),
        (SIZES, replace(UNET, channels=(8, 16)), "weight of shape"),
        (SIZES, replace(UNET, blocks_per_level=2), "of shape none|of shape"),
    ],
)
def test_networks_of_other_sizes_are_refused_in_one_line(model, sizes, unet, what):
    grown_unet, text, tokenizer = networks(sizes, NEW_WORDS, unet)
    with pytest.raises(TrainingError, match=what) as raised:
        take_over(model, grown_unet, text, tokenizer)
    assert "\n" not in str(raised.value)
    assert "leave start_from out" in str(raised.value)


def test_text_encoder_of_another_width_or_fewer_layers_is_refused(model, tmp_path):
    torch.manual_seed(0)
    unet, text, tokenizer = networks(MORE, OLD_WORDS)
    vae = AutoencoderKL(VAEConfig(channels=(8, 8), blocks_per_level=1, norm_groups=4))
    config = BaseTrainConfig(images=1, batch=1, data="", vae="", unet=UNET, text=SIZES).scheduler_config()
    save_folder(
        tmp_path / "deep", unet=unet, vae=vae, text_encoder=text, tokenizer_files=tokenizer.save, scheduler_config=config,
        dtype=torch.float32,
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"layers\.1\..* the config's is none"):
        take_over(tmp_path / "deep", *networks(SIZES, OLD_WORDS))
    wide = replace(SIZES, width=12)
    tokenizer = tokenizer_for(OLD_WORDS, wide)
    with pytest.raises(TrainingError, match="token_embedding"):
        take_over(model, UNet(UNET), CLIPTextEncoder(text_config(wide, tokenizer)), tokenizer)


def test_a_model_is_told_from_a_run(model, tmp_path):
    assert is_model(model)
    assert not is_model(tmp_path)
    assert autoencoder_of(model).config.channels == (8, 8)
