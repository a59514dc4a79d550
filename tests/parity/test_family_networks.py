"""What the U-Nets and text encoders of SD 2, SDXL, the upscalers and LCM have beyond SD 1's, against diffusers and transformers."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from sfumato.checkpoints.components import TEXT_ENCODER, UNET
from sfumato.errors import OptionError
from sfumato.models import KeysValues, Told, UNet

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def without_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def pair(folder: Path, levels: tuple[bool, ...], **options: Any) -> tuple[UNet, diffusers.UNet2DConditionModel]:
    theirs = diffusers.UNet2DConditionModel(
        down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in levels),
        up_block_types=tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels)),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=24,
        **options,
    )
    for parameter in theirs.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.eval().save_pretrained(folder)
    return UNET.open(folder), theirs


def assert_alike(ours: UNet, theirs: Any, told: Told, **said: Any) -> None:
    """The same answers, in one batch and with each row's part computed by itself; and not without what is told."""
    x, context = torch.randn(3, ours.config.in_channels, 18, 13), torch.randn(3, 7, 24)
    timesteps = torch.tensor([0.0, 500.25, 999.0])
    expected = theirs(x, timesteps, context, **said).sample
    text = ours.keys_values(context, told)
    assert relative_error(ours(x, timesteps, text), expected) < TOLERANCE

    def row(tensor: Tensor | None, at: int) -> Tensor | None:
        return None if tensor is None else tensor[at : at + 1]

    alone = [
        ours.keys_values(
            context[at : at + 1],
            Told(
                pooled=row(told.pooled, at),
                sizes=row(told.sizes, at),
                noise_level=row(told.noise_level, at),
                guidance_scale=row(told.guidance_scale, at),
            ),
        )
        for at in range(3)
    ]
    together = KeysValues.concat(alone)
    assert relative_error(ours(x, timesteps, together), expected) < TOLERANCE
    assert relative_error(ours(x[1:2], timesteps[1:2], together.rows(1, 2)), expected[1:2]) < 10 * TOLERANCE


def test_sdxl(tmp_path: Path) -> None:
    """Depth by level, linear projections, a pooled text and sizes."""
    ours, theirs = pair(
        tmp_path,
        (False, True, True),
        block_out_channels=(16, 32, 48),
        attention_head_dim=(2, 4, 6),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
    )
    pooled, sizes = torch.randn(3, 20), torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]] * 2 + [[768, 512, 64, 0, 5, 7]])
    assert_alike(
        ours, theirs, Told(pooled=pooled, sizes=sizes), added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}
    )
    with pytest.raises(OptionError, match="has to be told a pooled text"):
        ours(torch.randn(1, 4, 8, 8), 1, torch.randn(1, 7, 24))
    with pytest.raises(OptionError, match="has to be told sizes"):
        ours.keys_values(torch.randn(1, 7, 24), Told(pooled=pooled[:1]))


def test_the_text_is_pooled_for_every_layer(tmp_path: Path) -> None:
    """The bundled model's U-Net: diffusers pools the same context, told nothing beside it."""
    ours, theirs = pair(
        tmp_path,
        (False, True),
        block_out_channels=(16, 32),
        attention_head_dim=(2, 4),
        addition_embed_type="text",
        addition_embed_type_num_heads=3,
    )
    assert ours.config.text_heads == 3
    assert_alike(ours, theirs, Told(), added_cond_kwargs={})


def test_the_refiner(tmp_path: Path) -> None:
    """A middle of several blocks within a level that doesn't attend; five numbers, one of them an aesthetic score."""
    ours, theirs = pair(
        tmp_path,
        (False, True, True, False),
        block_out_channels=(16, 16, 32, 32),
        attention_head_dim=(2, 2, 4, 4),
        transformer_layers_per_block=2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 5 * 8,
    )
    pooled, sizes = torch.randn(3, 24), torch.tensor([[1024.0, 1024, 0, 0, 6.0]] * 2 + [[1024, 1024, 0, 0, 2.5]])
    assert_alike(
        ours, theirs, Told(pooled=pooled, sizes=sizes), added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}
    )


def test_the_upscaler(tmp_path: Path) -> None:
    """Seven channels, levels that attend to the text alone, and a noise level."""
    ours, theirs = pair(
        tmp_path,
        (False, True, True, True),
        in_channels=7,
        block_out_channels=(16, 32, 32, 48),
        attention_head_dim=8,
        only_cross_attention=(True, True, True, False),
        use_linear_projection=True,
        num_class_embeds=100,
    )
    assert ours.config.only_cross == (False, True, True, False)
    levels = torch.tensor([0, 20, 99])
    assert_alike(ours, theirs, Told(noise_level=levels), class_labels=levels)
    with pytest.raises(OptionError, match="has to be told a noise level"):
        ours.keys_values(torch.randn(1, 7, 24))
    ours.set_attention_slicing(2)
    assert_alike(ours, theirs, Told(noise_level=levels), class_labels=levels)


def test_depth_and_instructions_are_more_channels(tmp_path: Path) -> None:
    for channels in (5, 8, 9):
        ours, theirs = pair(
            tmp_path / str(channels),
            (True, False),
            in_channels=channels,
            block_out_channels=(16, 32),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
        )
        assert_alike(ours, theirs, Told())


@pytest.mark.parametrize("width", [12, 13])
def test_lcm_is_told_its_guidance_scale(width: int, tmp_path: Path) -> None:
    ours, theirs = pair(
        tmp_path, (True, False), block_out_channels=(16, 32), attention_head_dim=4, time_cond_proj_dim=width
    )
    scales = torch.tensor([1.0, 7.5, 8.0])
    embed = diffusers.StableDiffusionPipeline.get_guidance_scale_embedding
    assert_alike(ours, theirs, Told(guidance_scale=scales), timestep_cond=embed(None, scales - 1, embedding_dim=width))
    with pytest.raises(OptionError, match="has to be told a guidance scale"):
        ours.keys_values(torch.randn(1, 7, 24))


@pytest.mark.parametrize("clip_skip", [0, 1, 2])
def test_text_encoders_without_their_final_norm(clip_skip: int, tmp_path: Path) -> None:
    """SDXL reads the layer before the last as it is, and the pooled text from the last."""
    config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=20, hidden_act="gelu", eos_token_id=48, bos_token_id=1, projection_dim=24,
    )  # fmt: skip
    theirs = transformers.CLIPTextModelWithProjection(config)
    for parameter in theirs.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.eval().save_pretrained(tmp_path)
    ours = TEXT_ENCODER.open(tmp_path)
    tokens = torch.randint(3, 48, (3, 17))
    tokens[:, 9] = 48
    expected = theirs(tokens, output_hidden_states=True)
    encoded = ours(tokens, clip_skip, normed=False)
    assert relative_error(encoded.hidden, expected.hidden_states[-1 - clip_skip]) < TOLERANCE
    assert relative_error(encoded.pooled, expected.text_embeds) < TOLERANCE
