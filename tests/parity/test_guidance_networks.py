"""FreeU and perturbed attention in a U-Net of diffusers' and in ours, with the same weights."""

import re
from typing import Any, TypeAlias

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

from sfumato.checkpoints.components import UNET
from sfumato.diffusion.guidance import rescaled
from sfumato.models import UNet
from sfumato.models.freeu import FreeU
from sfumato.pipeline.perturbing import perturbed_layers

Networks: TypeAlias = tuple[Any, UNet]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Three levels, so that there is one that FreeU leaves alone."""
    torch.manual_seed(0)
    theirs = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()
    folder = tmp_path_factory.mktemp("unet")
    theirs.save_pretrained(folder)
    return theirs, UNET.open(folder)


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (4, 4)])
@pytest.mark.parametrize("factors", [(0.9, 0.2, 1.2, 1.4), (0.6, 1.0, 1.0, 1.1), (1.5, 0.5, 0.8, 1.0)])
def test_freeu(networks: Networks, size: tuple[int, int], factors: tuple[float, float, float, float]) -> None:
    theirs, ours = networks
    g = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 4, *size, generator=g), torch.randn(2, 7, 32, generator=g)
    s1, s2, b1, b2 = factors
    with torch.no_grad():
        plain = theirs(x, 400, text).sample
        theirs.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)
        expected = theirs(x, 400, text).sample
        theirs.disable_freeu()
        got = ours(x, 400, text, freeu=FreeU(s1=s1, s2=s2, b1=b1, b2=b2))
    assert (expected - plain).abs().mean() > 1e-3
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("applied", ["mid", "down_blocks.1", "up_blocks.(1|2)", "attentions.0.transformer_blocks"])
def test_perturbed_attention(networks: Networks, applied: str) -> None:
    theirs, ours = networks
    g = torch.Generator().manual_seed(2)
    x, text = torch.randn(4, 4, 8, 8, generator=g), torch.randn(4, 7, 32, generator=g)
    before = theirs.attn_processors
    chosen = {name: name.endswith("attn1.processor") and re.search(applied, name) for name in before}
    assert any(chosen.values())
    theirs.set_attn_processor(
        {name: PAGIdentitySelfAttnProcessor2_0() if chosen[name] else before[name] for name in before}
    )
    with torch.no_grad():
        expected = theirs(x, 400, text).sample  # the second half is perturbed
        theirs.set_attn_processor(before)
        plain = theirs(x, 400, text).sample
        layers = perturbed_layers(ours, (applied,))
        got = ours(x, 400, text, ours.perturbing(layers, [False, False, True, True]))
    assert (expected - plain)[2:].abs().mean() > 1e-3
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_rescaling() -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    torch.manual_seed(0)
    guided, prompted = 4 * torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    expected = rescale_noise_cfg(guided, prompted, guidance_rescale=0.7)
    for i in range(3):
        torch.testing.assert_close(rescaled(guided[i], prompted[i], 0.7), expected[i])
