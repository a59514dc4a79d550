"""Our tables of LDM and OpenCLIP names against diffusers' own conversion of single files, both ways, on random tensors."""

from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor, nn

from sfumato.checkpoints.clip_configs import write_text_config
from sfumato.checkpoints.configs import write_unet_config, write_vae_config
from sfumato.checkpoints.diffusers_layout import text_keys, unet_keys, vae_keys
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.ldm_layout import EMA_PREFIX, UNET_PREFIX, ema_keys, ldm_unet_keys, ldm_vae_keys
from sfumato.checkpoints.openclip_layout import openclip_text_keys
from sfumato.models import AutoencoderKL, CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig, VAEConfig

SMALL = {"norm_groups": 4, "context_dim": 12}
UNETS = {
    "like SD 1": UNetConfig(
        channels=(8, 16, 16, 16), heads=(2,) * 4, depth=(1,) * 4, attention=(True, True, True, False), **SMALL
    ),
    "like SD 2": UNetConfig(
        channels=(8, 16), heads=(2, 2), depth=(1, 1), attention=(True, False), linear_projection=True, **SMALL
    ),
    "like SDXL": UNetConfig(
        channels=(8, 16, 16), heads=(2,) * 3, depth=(1, 2, 3), attention=(False, True, True), linear_projection=True,
        sizes_width=60, size_width=8, **SMALL,
    ),
    "like the refiner": UNetConfig(
        channels=(8, 16, 16, 16), heads=(2,) * 4, depth=(4,) * 4, attention=(False, True, True, False),
        linear_projection=True, sizes_width=52, size_width=8, **SMALL,
    ),
    "like the upscaler": UNetConfig(
        channels=(8, 16, 16, 16), heads=(2,) * 4, depth=(1,) * 4, attention=(False, True, True, True), in_channels=7,
        only_cross=(True, True, True, False), linear_projection=True, noise_levels=30, **SMALL,
    ),
    "one block a level": UNetConfig(
        channels=(8, 16), heads=(2, 2), depth=(2, 1), attention=(True, True), blocks_per_level=1, in_channels=9, **SMALL
    ),
}  # fmt: skip


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(tensor.shape) for name, tensor in network.state_dict().items()}


def theirs_of(tensors: dict[str, Tensor], keys: KeyMap) -> dict[str, Tensor]:
    """The file that holds these, in a layout."""
    return {key: keys.joined(key, [tensors[name] for name in held]) for key, held in keys.files_of(tensors).items()}


def ours_of(file: dict[str, Tensor], keys: KeyMap, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a file in a layout holds."""
    found: dict[str, Tensor] = {}
    for key, tensor in file.items():
        shapes = [list(expected[name].shape) for name in keys.held_in(key)]
        assert list(tensor.shape) in keys.shapes_of(key, shapes), key
        found |= keys.split(key, tensor, shapes)
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("name", UNETS)
def test_unets(name: str) -> None:
    config = UNETS[name]
    tensors = random_weights(UNet(config))
    reference = diffusers.UNet2DConditionModel.from_config(write_unet_config(config))
    keys = ldm_unet_keys(config).under(UNET_PREFIX, "")
    file = theirs_of(tensors, keys)
    converted = convert_ldm_unet_checkpoint(dict(file), dict(reference.config))
    assert_same(converted, theirs_of(tensors, unet_keys(config)))
    assert converted.keys() == reference.state_dict().keys()
    assert_same(ours_of(file, keys, tensors), tensors)


def test_averages_of_training() -> None:
    """Under their names without dots, of which diffusers needs a hundred to take them for averages."""
    config = UNETS["like SDXL"]
    network = UNet(config)
    tensors, average = random_weights(network), {name: t + 1 for name, t in random_weights(network).items()}
    keys = ldm_unet_keys(config)
    averages = ema_keys(keys, tensors).under(EMA_PREFIX, "")
    file = theirs_of(tensors, keys.under(UNET_PREFIX, "")) | theirs_of(average, averages)
    assert "model_ema.diffusion_modelinput_blocks00weight" in file
    options = write_unet_config(config)
    assert_same(convert_ldm_unet_checkpoint(file, options, extract_ema=True), theirs_of(average, unet_keys(config)))
    assert_same(convert_ldm_unet_checkpoint(file, options), theirs_of(tensors, unet_keys(config)))
    mine = {key: tensor for key, tensor in file.items() if key.startswith("model_ema.")}
    assert_same(ours_of(mine, averages, tensors), average)
    assert averages.is_leftover("model_ema.decay")


@pytest.mark.parametrize("channels", [(8, 8, 16, 16), (8, 16, 16), (16,)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_autoencoders(channels: tuple[int, ...], blocks: int) -> None:
    config = VAEConfig(channels=channels, blocks_per_level=blocks, norm_groups=4)
    tensors = random_weights(AutoencoderKL(config))
    keys = ldm_vae_keys(config).under("first_stage_model", "")
    file = theirs_of(tensors, keys)
    assert file["first_stage_model.encoder.mid.attn_1.q.weight"].ndim == 4
    reference = diffusers.AutoencoderKL.from_config(write_vae_config(config))
    converted = convert_ldm_vae_checkpoint(dict(file), dict(reference.config))
    assert_same(converted, theirs_of(tensors, vae_keys(config)))
    assert converted.keys() == reference.state_dict().keys()
    assert_same(ours_of(file, keys, tensors), tensors)
    # Some programs save the attention's weights as matrices.
    flat = {key: tensor.reshape(tensor.shape[:2]) if key in keys.pointwise else tensor for key, tensor in file.items()}
    assert_same(ours_of(flat, keys, tensors), tensors)


@pytest.mark.parametrize("projection_dim", [None, 32])
def test_openclip(projection_dim: int | None) -> None:
    config = CLIPTextConfig(
        vocab_size=50, width=32, layers=3, heads=2, max_length=9, mlp_width=24, activation="gelu",
        projection_dim=projection_dim,
    )  # fmt: skip
    tensors = random_weights(CLIPTextEncoder(config))
    keys = openclip_text_keys(config, unread_layers=[3]).under("cond_stage_model.model", "")
    file = theirs_of(tensors, keys)
    assert file["cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight"].shape == (96, 32)

    class Theirs:
        config: Any = transformers.CLIPTextConfig(**write_text_config(CLIPTextConfig(width=32, heads=2)))

    # diffusers never reads SD 2's projection, and is told the others' under their own prefix.
    prefixed = {key.replace("cond_stage_model", "conditioner.embedders.1"): tensor for key, tensor in file.items()}
    converted = convert_open_clip_checkpoint(Theirs(), prefixed, prefix="conditioner.embedders.1.model.")
    assert_same(converted, theirs_of(tensors, text_keys(config)))
    assert_same(ours_of(file, keys, tensors), tensors)
    assert keys.is_leftover("cond_stage_model.model.transformer.resblocks.3.ln_1.weight")
    assert keys.is_leftover("cond_stage_model.model.text_projection") == (projection_dim is None)
