from dataclasses import replace

import pytest
import torch

from sfumato.checkpoints.families import detect_family
from sfumato.checkpoints.unets import build
from sfumato.errors import ConfigError
from sfumato.models import AnyUNetConfig, CLIPTextEncoder
from sfumato.text.tokenizer import Tokenizer
from sfumato.variants import FAMILIES, LATENT_UPSCALER, LCM, REFINER, SD1, SD2, SD2_V, SDXL, SDXL_TURBO, UPSCALER

# As the model cards and papers of the released networks count them.
UNETS = {
    "sd1": 859_520_964,
    "sd1-inpaint": 859_535_364,
    "sd2": 865_910_724,
    "sdxl": 2_567_463_684,
}
TEXT_ENCODERS = {
    ("sd1", "text_encoder"): 123_060_480,
    ("sd2", "text_encoder"): 340_387_840,
    ("sdxl", "text_encoder_2"): 694_659_840,
}


@pytest.mark.parametrize("name", UNETS)
def test_sizes_of_the_unets(name: str) -> None:
    with torch.device("meta"):
        unet = build(FAMILIES[name].unet)
    assert sum(parameter.numel() for parameter in unet.parameters()) == UNETS[name]


@pytest.mark.parametrize(("name", "encoder"), TEXT_ENCODERS)
def test_sizes_of_the_text_encoders(name: str, encoder: str) -> None:
    with torch.device("meta"):
        network = CLIPTextEncoder(FAMILIES[name].text_encoders[encoder])
    assert sum(parameter.numel() for parameter in network.parameters()) == TEXT_ENCODERS[name, encoder]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_families_agree_with_themselves(family) -> None:
    unet = family.unet
    assert family.heads(unet.channels) == unet.heads
    context = sum(config.width for config in family.text_encoders.values())
    assert unet.context_dim == context, "a U-Net reads all of its text encoders, side by side"
    pooled = next((config.projection_dim for config in family.text_encoders.values() if config.projection_dim), 0)
    if (sizes := getattr(unet, "sizes_width", None)) is not None:
        assert sizes == pooled + (5 if family.aesthetic else 6) * unet.size_width
    assert unet.sample_size * 2 ** (len(family.vae.channels) - 1) == family.size or family in (LCM,)
    assert family.padding.keys() == {name.replace("text_encoder", "tokenizer") for name in family.text_encoders}
    assert set(family.open_clip) <= family.text_encoders.keys()
    tokens = Tokenizer.bundled_clip().spec.vocabulary.ids
    assert all(padding in tokens for padding in family.padding.values())


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_is_told_from_its_own_unet(family) -> None:
    found = detect_family(family.unet, prediction=family.prediction, spacing=family.scheduler.get("timestep_spacing"))
    assert found.family is family
    # And a small model of the same make too.
    small = replace(family.unet, channels=tuple(width // 4 for width in family.unet.channels))
    assert detect_family(small, name=family.name).family is family


def test_what_shows_a_family_is_said() -> None:
    def said(unet: AnyUNetConfig) -> str:
        return "; ".join(detect_family(unet).reasons)

    assert said(replace(SD1.unet, in_channels=9)) == (
        "convolutions around its attention, and a text 768 wide: SD 1; "
        "9 input channels: the latents and a mask and the latents of a masked picture, so inpainting"
    )
    assert "told the sizes of pictures" in said(SDXL.unet).replace("a pooled text and ", "")
    assert "five numbers" in said(REFINER.unet)
    assert "7 input channels: the latents and the pixels of a small picture" in said(UPSCALER.unet)
    assert said(LATENT_UPSCALER.unet) == (
        "its U-Net is told the time in its norms (k-diffusion's blocks): the latent ×2 upscaler; "
        "8 input channels: the latents and the latents of a picture, so upscaling"
    )
    assert "distilled to few steps (LCM)" in said(LCM.unet)
    assert said(SD2.unet).endswith("what it predicts is in no tensor; taken for v_prediction")


def test_what_no_tensor_says_can_be_said() -> None:
    assert detect_family(SD2.unet).family is SD2_V
    assert detect_family(SD2.unet, prediction="epsilon").family is SD2
    assert detect_family(SD2.unet, name="sd2").family is SD2
    assert detect_family(SDXL.unet, spacing="trailing").family is SDXL_TURBO
    assert detect_family(SDXL.unet, spacing="trailing", prediction="v_prediction").family is SDXL
    assert detect_family(SD2.unet, spacing="trailing", prediction="v_prediction").family is SD2_V
    assert detect_family(SDXL.unet, name="sdxl-turbo").reasons[-1] == "said to be sdxl-turbo"
    with pytest.raises(ConfigError, match=r"not of the family sdxl: convolutions around .*expected sd1"):
        detect_family(SD1.unet, name="sdxl")
    with pytest.raises(ConfigError, match="no family 'sd3'; known: sd1, "):
        detect_family(SD1.unet, name="sd3")


def test_no_family() -> None:
    with pytest.raises(ConfigError, match="reads 12 channels and writes 4, which is no family"):
        detect_family(replace(SD1.unet, in_channels=12))
    with pytest.raises(ConfigError, match=r"of no family that Sfumato knows: .*so depth"):
        detect_family(replace(SD1.unet, in_channels=5))
    with pytest.raises(ConfigError, match=r"heads 64 wide, which don't divide a U-Net of \[96, 64\] channels"):
        SD2.heads((96, 64))
    with pytest.raises(ConfigError, match=r"8 heads, which don't divide"):
        SD1.heads((12,))
