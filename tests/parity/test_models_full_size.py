"""Every network of Stable Diffusion 1.4 at its true size, with random weights saved by diffusers and transformers."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from torch import Tensor

from sfumato.checkpoints.components import SAFETY_CHECKER, TEXT_ENCODER, UNET, VAE

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def alone_in_memory() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    gc.collect()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def perturbed(reference: Any) -> Any:
    """The reference with random norms and biases, which are all alike at first and would hide a mistaken name; matrices are not."""
    for parameter in reference.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.05 * torch.randn_like(parameter))
    return reference.eval()


def test_unet(tmp_path: Path) -> None:
    theirs = perturbed(diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768))
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 859_520_964
    x, timesteps, context = torch.randn(2, 4, 24, 32), torch.tensor([981, 21]), torch.randn(2, 77, 768)
    expected = theirs(x, timesteps, context).sample
    theirs.save_pretrained(tmp_path)
    del theirs
    assert relative_error(UNET.open(tmp_path)(x, timesteps, context), expected) < TOLERANCE


def test_autoencoder(tmp_path: Path) -> None:
    theirs = perturbed(
        diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=512,
        )
    )
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 83_653_863
    pixels, latents = torch.randn(1, 3, 192, 256), torch.randn(1, 4, 24, 32)
    expected = theirs.encode(pixels).latent_dist.mode(), theirs.decode(latents).sample
    theirs.save_pretrained(tmp_path)
    del theirs
    ours = VAE.open(tmp_path)
    assert relative_error(ours.encode(pixels).mode(), expected[0]) < TOLERANCE
    assert relative_error(ours.decode(latents), expected[1]) < TOLERANCE


def test_text_encoder(tmp_path: Path) -> None:
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    theirs = perturbed(transformers.CLIPTextModel(config))
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 123_060_480
    tokens = torch.randint(0, 49406, (2, 77))
    tokens[:, 40:] = 49407
    expected: Any = theirs(tokens)
    theirs.save_pretrained(tmp_path)
    del theirs
    encoded = TEXT_ENCODER.open(tmp_path)(tokens)
    assert relative_error(encoded.hidden, expected.last_hidden_state) < TOLERANCE
    assert relative_error(encoded.pooled, expected.pooler_output) < TOLERANCE


def test_safety_checker(tmp_path: Path) -> None:
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    theirs = perturbed(StableDiffusionSafetyChecker(transformers.CLIPConfig(projection_dim=768, vision_config=vision)))
    pixels = torch.randn(4, 3, 224, 224)
    tower: Any = theirs.vision_model(pixels)[1]
    seen: Any = theirs.visual_projection(tower)
    # Concepts near what is seen in the first picture only, a special one among them.
    theirs.concept_embeds.data.normal_()
    theirs.concept_embeds.data[5] = seen[0] - seen[1:].mean(0)
    theirs.special_care_embeds.data[1] = seen[0] - seen[1:].mean(0)
    similarity = torch.nn.functional.cosine_similarity(seen, theirs.concept_embeds[5][None])
    threshold = (similarity[0] + similarity[1:].max()) / 2
    theirs.concept_embeds_weights.data.fill_(0.9)[5] = threshold
    theirs.special_care_embeds_weights.data.fill_(threshold)
    theirs.save_pretrained(tmp_path)
    _, expected = theirs(pixels, images=torch.zeros(4, 1))
    assert expected[0]
    assert not all(expected)

    ours = SAFETY_CHECKER.open(tmp_path)
    mine = ours.vision(pixels)
    assert relative_error(mine, tower) < TOLERANCE
    assert relative_error(ours.projection(mine), seen) < TOLERANCE
    verdict = ours(pixels)
    assert verdict.flagged.tolist() == expected
    special = cosine_distance(seen, theirs.special_care_embeds) - theirs.special_care_embeds_weights
    stricter = 0.01 * (special.round(decimals=3) > 0).any(dim=1, keepdim=True)
    concept = cosine_distance(seen, theirs.concept_embeds) - theirs.concept_embeds_weights + stricter
    torch.testing.assert_close(verdict.special_scores, special, rtol=0, atol=6e-4)
    torch.testing.assert_close(verdict.concept_scores, concept, rtol=0, atol=6e-4)
