"""Each network against diffusers' or transformers' with the same random weights, at small odd sizes, through files."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from torch import Tensor

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, UNET, VAE
from sfumato.models import KeysValues, SafetyChecker
from sfumato.models.safety_checker import SafetyVerdict

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def without_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def perturbed(reference: Any) -> Any:
    """The reference with every weight random: a norm's are all alike at first, and would hide a mistaken name."""
    for parameter in reference.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return reference.eval()


def saved(reference: Any, folder: Path) -> Any:
    perturbed(reference).save_pretrained(folder)
    return reference


def reference_unet(
    channels: tuple[int, ...], attends: tuple[bool, ...], **options: Any
) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        block_out_channels=channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        cross_attention_dim=24,
        **options,
    )


UNETS = {
    "like SD 1": ((32, 64), (True, False), {"attention_head_dim": 4, "norm_num_groups": 32, "layers_per_block": 2}),
    "1 block per level": (
        (32, 64),
        (True, True),
        {"attention_head_dim": 8, "norm_num_groups": 8, "layers_per_block": 1},
    ),
    "3 blocks per level": (
        (16, 32),
        (False, True),
        {"attention_head_dim": 4, "norm_num_groups": 8, "layers_per_block": 3},
    ),
    "linear projections, heads by level": (
        (16, 48, 64),
        (True, False, True),
        {"attention_head_dim": (2, 3, 8), "norm_num_groups": 8, "layers_per_block": 1, "use_linear_projection": True},
    ),
    "attention inside only": (
        (64, 128, 192),
        (False, True, True),
        {"attention_head_dim": 4, "norm_num_groups": 16, "layers_per_block": 1},
    ),
    "several transformer blocks": (
        (16, 32),
        (True, True),
        {"attention_head_dim": 4, "norm_num_groups": 8, "layers_per_block": 1, "transformer_layers_per_block": (1, 3)},
    ),
    "no attention but in the middle": (
        (16, 32),
        (False, False),
        {"attention_head_dim": 4, "norm_num_groups": 8, "layers_per_block": 2, "norm_eps": 1e-6},
    ),
    "one level": (
        (32,),
        (True,),
        {"attention_head_dim": 4, "norm_num_groups": 8, "layers_per_block": 2, "in_channels": 9},
    ),
}


@pytest.mark.parametrize("name", UNETS)
def test_unet(name: str, tmp_path: Path) -> None:
    channels, attends, options = UNETS[name]
    theirs = saved(reference_unet(channels, attends, **options), tmp_path)
    ours = UNET.open(tmp_path)

    # 13 and 18 can't be halved evenly twice: what is skipped to must be matched in size on the way up.
    x = torch.randn(3, ours.config.in_channels, 18, 13)
    timesteps = torch.tensor([0.0, 500.25, 999.0])
    context = torch.randn(3, 7, 24)
    expected = theirs(x, timesteps, context).sample

    assert relative_error(ours(x, timesteps, context), expected) < TOLERANCE
    assert relative_error(ours(x, timesteps, ours.keys_values(context)), expected) < TOLERANCE
    one_by_one = [ours.keys_values(row[None]) for row in context]
    assert relative_error(ours(x, timesteps, KeysValues.concat(one_by_one)), expected) < TOLERANCE
    ours.set_attention_slicing(1)
    assert relative_error(ours(x, timesteps, context), expected) < TOLERANCE


AUTOENCODERS = {
    "1 block per level": ((16, 32), 1),
    "3 blocks per level": ((16, 32, 32), 3),
    "like SD 1": ((16, 16, 32, 32), 2),
    "the same size": ((32,), 1),
}


def reference_vae(channels: tuple[int, ...], blocks: int, **options: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=channels,
        layers_per_block=blocks,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        norm_num_groups=8,
        **options,
    )


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder(name: str, tmp_path: Path) -> None:
    channels, blocks = AUTOENCODERS[name]
    theirs = saved(reference_vae(channels, blocks, latent_channels=6), tmp_path)
    ours = VAE.open(tmp_path)

    pixels = torch.randn(3, 3, 40, 27)
    expected = theirs.encode(pixels).latent_dist
    encoded = ours.encode(pixels)
    assert relative_error(encoded.mode(), expected.mode()) < TOLERANCE
    assert relative_error(encoded.logvar, expected.logvar) < TOLERANCE
    noise = torch.randn(expected.mean.shape, generator=torch.Generator().manual_seed(1))
    assert relative_error(encoded.sample(noise), expected.sample(torch.Generator().manual_seed(1))) < TOLERANCE

    latents = torch.randn(3, 6, 9, 5)
    assert relative_error(ours.decode(latents), theirs.decode(latents).sample) < TOLERANCE


@pytest.mark.parametrize(("height", "width"), [(8, 8), (21, 13), (5, 30)])
def test_tiled_decoding(height: int, width: int, tmp_path: Path) -> None:
    theirs = saved(reference_vae((16, 32, 32), 1, sample_size=32), tmp_path)
    ours = VAE.open(tmp_path)
    latents, pixels = torch.randn(2, 4, height, width), torch.randn(1, 3, 4 * height, 4 * width)
    # diffusers' own tiles are another picture; ours are its whole one.
    assert relative_error(ours.decode_tiled(latents, 4), theirs.decode(latents).sample) < TOLERANCE
    assert relative_error(ours.encode_tiled(pixels, 4).mean, theirs.encode(pixels).latent_dist.mean) < TOLERANCE


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos_token_id", [2, 48])
@pytest.mark.parametrize("projected", [False, True])
def test_text_encoder(activation: str, eos_token_id: int, projected: bool, tmp_path: Path) -> None:
    config = transformers.CLIPTextConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        hidden_act=activation,
        eos_token_id=eos_token_id,
        bos_token_id=1,
        projection_dim=24,
    )
    theirs = saved(
        (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config), tmp_path
    )
    ours = TEXT_ENCODER.open(tmp_path)

    tokens = torch.randint(3, 48, (3, 17))
    tokens[0, 5] = tokens[0, 9] = 48  # the first of several ends is the end
    tokens[1, 16] = 48
    tokens[2, 3] = 48
    expected = theirs(tokens, output_hidden_states=True)
    encoded = ours(tokens)
    assert relative_error(encoded.hidden, expected.last_hidden_state) < TOLERANCE
    assert relative_error(encoded.pooled, expected.text_embeds if projected else expected.pooler_output) < TOLERANCE

    final_layer_norm = (theirs.text_model if projected else theirs).final_layer_norm
    for clip_skip in range(4):
        skipped = final_layer_norm(expected.hidden_states[-(clip_skip + 1)])
        assert relative_error(ours(tokens, clip_skip).hidden, skipped) < TOLERANCE

    seen = torch.rand(3, 17) > 0.4
    seen[:, 0] = True
    masked = theirs(tokens, attention_mask=seen.long()).last_hidden_state
    assert relative_error(masked, expected.last_hidden_state) > 0.01
    assert relative_error(ours(tokens, seen=seen).hidden, masked) < TOLERANCE
    assert relative_error(ours(tokens, seen=torch.ones_like(seen)).hidden, expected.last_hidden_state) < TOLERANCE


VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 30,
    "patch_size": 14,
}


def reference_checker(pixels: Tensor, **vision: Any) -> StableDiffusionSafetyChecker:
    """A checker whose thresholds lie within what it sees, so that both decisions occur."""
    config = transformers.CLIPConfig(projection_dim=20, vision_config={**VISION, **vision})
    checker = perturbed(StableDiffusionSafetyChecker(config))
    seen = torch.nn.functional.normalize(checker.visual_projection(checker.vision_model(pixels)[1]))
    for concepts, thresholds, passing in (
        (checker.concept_embeds, checker.concept_embeds_weights, 0.96),
        (checker.special_care_embeds, checker.special_care_embeds_weights, 0.9),
    ):
        concepts.normal_()
        nearness = seen @ torch.nn.functional.normalize(concepts).T
        thresholds.copy_(nearness.quantile(passing, dim=0))
    return checker


def assert_judged_alike(ours: SafetyChecker, theirs: StableDiffusionSafetyChecker, pixels: Tensor) -> SafetyVerdict:
    tower = theirs.vision_model(pixels)[1]
    assert relative_error(ours.vision(pixels), tower) < TOLERANCE
    seen = theirs.visual_projection(tower)
    assert relative_error(ours.projection(ours.vision(pixels)), seen) < TOLERANCE
    verdict = ours(pixels)
    special = cosine_distance(seen, theirs.special_care_embeds) - theirs.special_care_embeds_weights
    stricter = 0.01 * (special.round(decimals=3) > 0).any(dim=1, keepdim=True)
    concept = cosine_distance(seen, theirs.concept_embeds) - theirs.concept_embeds_weights + stricter
    # To the third decimal, and to half of one more where a score lies between two.
    torch.testing.assert_close(verdict.special_scores, special, rtol=0, atol=5.1e-4)
    torch.testing.assert_close(verdict.concept_scores, concept, rtol=0, atol=5.1e-4)
    _, expected = theirs(pixels, images=torch.zeros(len(pixels), 1))
    assert verdict.flagged.tolist() == expected
    return verdict


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_safety_checker_decides_alike(activation: str, tmp_path: Path) -> None:
    pixels = 2 * torch.randn(256, 3, 30, 30)
    theirs = reference_checker(pixels, hidden_act=activation, layer_norm_eps=1e-3)
    theirs.save_pretrained(tmp_path)
    verdict = assert_judged_alike(SAFETY_CHECKER.open(tmp_path), theirs, pixels)
    assert 20 < verdict.flagged.sum() < 236, "the pictures should be of both kinds"
    # Some are blocked only because a special concept is near.
    plain = (verdict.concept_scores > 0.01).any(dim=1)
    assert (verdict.flagged & ~plain & (verdict.special_scores > 0).any(dim=1)).any()


def test_a_swapped_norm_of_the_vision_tower_would_show(tmp_path: Path) -> None:
    pixels = 2 * torch.randn(16, 3, 30, 30)
    theirs = reference_checker(pixels)
    theirs.save_pretrained(tmp_path)
    ours = SAFETY_CHECKER.open(tmp_path)
    ours.vision.norm_in, ours.vision.norm_out = ours.vision.norm_out, ours.vision.norm_in
    assert relative_error(ours.vision(pixels), theirs.vision_model(pixels)[1]) > 100 * TOLERANCE


def test_the_vision_config_of_older_files(tmp_path: Path) -> None:
    """They repeat it as `vision_config_dict`; what that leaves out is at its default, whatever the other says."""
    pixels = 2 * torch.randn(64, 3, 30, 30)
    reference_checker(pixels).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    contradicting = values["vision_config"] | {"hidden_act": "gelu", "layer_norm_eps": 0.3, "num_attention_heads": 8}
    path.write_text(json.dumps(values | {"vision_config": contradicting, "vision_config_dict": VISION}))
    theirs = StableDiffusionSafetyChecker.from_pretrained(tmp_path).eval()
    assert theirs.config.vision_config.hidden_act == "quick_gelu"
    assert_judged_alike(SAFETY_CHECKER.open(tmp_path), theirs, pixels)
