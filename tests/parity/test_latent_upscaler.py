"""The network of the latent ×2 upscaler, against diffusers' U-Net of k-diffusion's blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_families import FAMILIES
from torch import Tensor

import sfumato
from sfumato.checkpoints.components import UNET
from sfumato.errors import OptionError
from sfumato.models import KeysValues, LatentUpscaler, Told

TOLERANCE = 1e-4
# As the released model's config has them; sizes are small.
MADE_SO: dict[str, Any] = {
    "act_fn": "gelu",
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "in_channels": 8,
    "out_channels": 5,
    "mid_block_type": None,
    "norm_num_groups": None,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "cross_attention_dim": 24,
    "time_cond_proj_dim": 128 + 24,
}


@pytest.fixture(autouse=True)
def without_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def pair(folder: Path, channels: tuple[int, ...], **options: Any) -> tuple[LatentUpscaler, Any]:
    inner = len(channels) - 1
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=channels,
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * inner),
        up_block_types=(*("KCrossAttnUpBlock2D",) * inner, "KUpBlock2D"),
        **(MADE_SO | options),
    )
    for parameter in theirs.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.eval().save_pretrained(folder)
    ours = UNET.open(folder)
    assert isinstance(ours, LatentUpscaler)
    return ours, theirs


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize(
    ("channels", "blocks", "head"), [((32, 32, 64, 64), 2, 16), ((32, 64, 64), 1, 32), ((64, 96, 128, 128), 3, 16)]
)
def test_the_same_answers(channels: tuple[int, ...], blocks: int, head: int, tmp_path: Path) -> None:
    """Levels as wide as the one above, narrower, and innermost; in one batch, in rows, and with each text's part by itself."""
    ours, theirs = pair(tmp_path, channels, layers_per_block=blocks, attention_head_dim=head)
    x, context, pooled = torch.randn(3, 8, 24, 16), torch.randn(3, 7, 24), torch.randn(3, 24)
    sigmas = torch.tensor([0.03, 1.0, 14.6])
    # How diffusers' pipeline says that the small latents are free of noise, and which time it is.
    told = torch.cat([torch.ones(3, 64), torch.zeros(3, 64), pooled], dim=1)
    expected = theirs(x, sigmas.log() * 0.25, context, timestep_cond=told).sample

    text = ours.keys_values(context, Told(pooled=pooled))
    assert relative_error(ours(x, sigmas.log() / 4, text), expected) < TOLERANCE
    alone = [ours.keys_values(context[at : at + 1], Told(pooled=pooled[at : at + 1])) for at in range(3)]
    together = KeysValues.concat(alone)
    assert relative_error(ours(x, sigmas.log() / 4, together), expected) < TOLERANCE
    row = ours(x[1:2], sigmas[1].log() / 4, together.rows(1, 2))
    assert relative_error(row, expected[1:2]) < TOLERANCE
    ours.set_attention_slicing(1)
    assert relative_error(ours(x, sigmas.log() / 4, text), expected) < TOLERANCE

    # Each thing it is given changes the answer, so that none of the above is a comparison of nothing.
    other = ours.keys_values(context, Told(pooled=pooled.flip(0)))
    assert relative_error(ours(x, sigmas.log() / 4, other), expected) > 100 * TOLERANCE
    other = ours.keys_values(context.flip(0), Told(pooled=pooled))
    assert relative_error(ours(x, sigmas.log() / 4, other), expected) > 100 * TOLERANCE
    assert relative_error(ours(x, sigmas.flip(0).log() / 4, text), expected) > 100 * TOLERANCE


def test_what_it_has_to_be_given(tmp_path: Path) -> None:
    ours, _ = pair(tmp_path, (32, 64, 64), layers_per_block=1, attention_head_dim=32)
    context = torch.randn(1, 7, 24)
    with pytest.raises(OptionError, match="has to be told a pooled text"):
        ours.keys_values(context)
    text = ours.keys_values(context, Told(pooled=torch.randn(1, 24)))
    with pytest.raises(OptionError, match="latents of 8 × 6 can't be enlarged; give multiples of 4"):
        ours(torch.randn(1, 8, 8, 6), 0.0, text)


def test_its_pipeline(family_folders: Callable[[str], Path], tmp_path: Path) -> None:
    """What a pipeline does without drawing; that it opens and says what it needs has a test with the other families."""
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(family_folders("x2-latent-upscaler"))
    assert isinstance(pipe.unet, LatentUpscaler)
    pipe.enable_attention_slicing()
    assert pipe.unet.attention_slicing == 1
    assert pipe.do_classifier_free_guidance
    # Put into a model whose text encoder and latents fit it, it makes that one a latent upscaler.
    other = sfumato.StableDiffusionPipeline.from_pretrained(family_folders("sd1"), unet=pipe.unet)
    assert other.family is FAMILIES["x2-latent-upscaler"]
    assert type(other) is type(pipe) is sfumato.StableDiffusionLatentUpscalePipeline
    pipe.save_pretrained(tmp_path)
    again = diffusers.StableDiffusionLatentUpscalePipeline.from_pretrained(tmp_path)
    assert again.scheduler.config.prediction_type == "sample"


def test_diffusers_draws_the_same_with_what_we_save(family_folders: Callable[[str], Path], tmp_path: Path) -> None:
    kind, folder = diffusers.StableDiffusionLatentUpscalePipeline, family_folders("x2-latent-upscaler")
    sfumato.StableDiffusionPipeline.from_pretrained(folder).save_pretrained(tmp_path)
    pictures: list[Tensor] = []
    for place in (folder, tmp_path):
        theirs = kind.from_pretrained(place)
        theirs.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        small = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(5))
        run: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "latent"}
        pictures.append(theirs("a red apple", small, generator=generator, **run).images)
    assert torch.equal(*pictures)
