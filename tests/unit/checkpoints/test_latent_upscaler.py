"""The latent ×2 upscaler's network in files: its config, its sizes, and what is said where it can't be held."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import FAMILIES, our_networks, save_tokenizers, tiny_unet

from sfumato.checkpoints import open_folder, save_folder
from sfumato.checkpoints.components import UNET
from sfumato.checkpoints.convert import open_model, save_model
from sfumato.checkpoints.description import describe_file
from sfumato.checkpoints.latent_upscaler import latent_upscaler_sizes, read_latent_upscaler_config
from sfumato.checkpoints.merge import merge_models
from sfumato.checkpoints.single_file import open_single_file
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.errors import ConfigError, UnsupportedError
from sfumato.models import LatentUpscalerConfig

FAMILY = FAMILIES["x2-latent-upscaler"]

# The released model's config, as its makers' script for diffusers and diffusers' defaults make it.
RELEASED: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.13.0.dev0",
    "act_fn": "gelu",
    "attention_head_dim": 64,
    "block_out_channels": [384, 384, 768, 768],
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "cross_attention_dim": 768,
    "down_block_types": ["KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 4,
    "mid_block_scale_factor": 1,
    "mid_block_type": None,
    "norm_eps": 1e-05,
    "norm_num_groups": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 5,
    "projection_class_embeddings_input_dim": None,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 128,
    "time_cond_proj_dim": 896,
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "up_block_types": ["KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"],
    "upcast_attention": False,
    "use_linear_projection": False,
}


def folder_of(path: Path) -> Path:
    save_tokenizers(FAMILY, path / "tokenizers")
    save_folder(
        path / "model", **our_networks(FAMILY), scheduler_config=FAMILY.scheduler, family=FAMILY,
        tokenizer_files=path / "tokenizers" / "tokenizer",
    )  # fmt: skip
    return path / "model"


def test_the_released_config_and_ours_are_read_alike() -> None:
    assert UNET.read_config(RELEASED, "it") == FAMILY.unet == LatentUpscalerConfig()
    written = UNET.write_config(FAMILY.unet)
    assert written.items() <= RELEASED.items()
    assert UNET.read_config(written, "it") == FAMILY.unet
    assert FAMILY.unet["block_out_channels"] == (384, 384, 768, 768)
    assert FAMILY.unet["attention_head_dim"] == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "silu"}, 'act_fn is "silu"; expected "gelu"'),
        ({"norm_num_groups": 32}, "norm_num_groups is 32; expected null"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type is .*; expected null"),
        ({"time_embedding_dim": 1024}, "time_embedding_dim is 1024; expected null"),
        ({"block_out_channels": [384, 768, 768, 768]}, "expected two at the end, and only there, of 768"),
        ({"block_out_channels": [384, 384, 768, 1536]}, "expected two at the end, and only there, of 768"),
        ({"block_out_channels": [48, 48, 96, 96]}, "expected multiples of 32 and of the heads' 64"),
        ({"attention_head_dim": 80}, "expected multiples of 32 and of the heads' 80"),
        ({"down_block_types": ["KDownBlock2D"] * 4}, "expected KDownBlock2D, then 3 of KCrossAttnDownBlock2D"),
        ({"up_block_types": ["KUpBlock2D"] * 4}, "expected 3 of KCrossAttnUpBlock2D, then KUpBlock2D"),
        ({"down_block_types": ["KDownBlock2D", "DownBlock2D"]}, "down_block_types is"),
        ({"time_cond_proj_dim": 768}, "time_cond_proj_dim is 768; expected 128 and the 768 of a pooled text"),
        ({"time_cond_proj_dim": None}, "time_cond_proj_dim is not given"),
        ({"num_class_embeds": 10}, "num_class_embeds is 10"),
        ({"addition_embed_type": "text"}, 'addition_embed_type is "text"'),
        ({"_class_name": "UNet2DModel"}, "_class_name is 'UNet2DModel'"),
    ],
)
def test_what_is_no_latent_upscaler(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_latent_upscaler_config(RELEASED | change, "it")


@pytest.mark.parametrize("name", ["act_fn", "conv_in_kernel", "conv_out_kernel", "mid_block_type", "norm_num_groups",
                                  "time_embedding_type", "timestep_post_act"])  # fmt: skip
def test_what_a_config_leaves_out_is_what_diffusers_does_without(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_latent_upscaler_config({key: value for key, value in RELEASED.items() if key != name}, "it")


def test_sizes_are_told_from_shapes() -> None:
    with torch.device("meta"):
        tensors = UNET.build(FAMILY.unet).state_dict()
    keys = UNET.keys(FAMILY.unet)
    shapes = {keys.to_theirs(name): list(tensor.shape) for name, tensor in tensors.items()}
    assert len(shapes) == len(tensors)
    assert latent_upscaler_sizes(shapes) == FAMILY.unet
    for name in ("conv_out.weight", "down_blocks.1.attentions.0.attn2.to_k.weight"):
        with pytest.raises(ConfigError, match=f"has no {name}"):
            latent_upscaler_sizes({key: shape for key, shape in shapes.items() if key != name})
        with pytest.raises(ConfigError, match=f"has no {name}"):
            latent_upscaler_sizes(shapes | {name: [5]})


def test_its_network_by_itself_is_told_from_its_tensors(tmp_path: Path) -> None:
    weights = folder_of(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
    described = describe_file(weights)
    assert described.plan is not None
    assert described.survey is not None
    assert described.plan.family is FAMILY
    assert described.survey.amiss == {}
    found = open_single_file(weights)
    assert found.networks.keys() == {"unet"}
    assert replace(found.unet.config, sample_size=8) == tiny_unet(FAMILY)
    save_model(found, tmp_path / "alone", layout="diffusers")
    again = load_file(tmp_path / "alone" / "diffusion_pytorch_model.safetensors")
    first = load_file(weights)
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    with pytest.raises(UnsupportedError, match="no names for the latent ×2 upscaler's network"):
        save_model(found, tmp_path / "it.safetensors", layout="ldm")
    assert not (tmp_path / "it.safetensors").exists()

    # Another model's file that claims to be one.
    networks = our_networks(FAMILIES["sd1"])
    save_single_file(tmp_path / "sd1.safetensors", **networks, scheduler_config=FAMILIES["sd1"].scheduler)
    with pytest.raises(ConfigError, match="the config of its U-Net is a latent upscaler's, which its tensors are not"):
        open_single_file(tmp_path / "sd1.safetensors", config=tmp_path / "model")

    # No shape tells the width of its heads, and those of the family don't divide this one.
    narrow = replace(tiny_unet(FAMILY), channels=(32, 64, 64), head_width=32)
    UNET.save(UNET.build(narrow), tmp_path / "narrow")
    with pytest.raises(ConfigError, match=r"heads 64 wide, which don't divide a U-Net of \[32, 64, 64\] channels"):
        open_single_file(tmp_path / "narrow" / "diffusion_pytorch_model.safetensors")


def test_a_whole_model_is_converted_and_merged_as_a_folder(tmp_path: Path) -> None:
    model = open_folder(folder_of(tmp_path))
    save_model(model, tmp_path / "half", layout="diffusers", dtype=torch.float16)
    half = open_model(tmp_path / "half")
    assert half.family is FAMILY
    assert half.scheduler_config == model.scheduler_config
    weights = half.unet.state_dict()
    for name, tensor in model.unet.state_dict().items():
        assert torch.equal(weights[name], tensor.half())
    merge_models(model, half, None, tmp_path / "merged", weight=0.5, layout="diffusers")
    merged, name = open_folder(tmp_path / "merged"), "up.0.attention.norm_text.weight"
    expected = model.unet.state_dict()[name].lerp(half.unet.state_dict()[name].float(), 0.5)
    assert torch.equal(merged.unet.state_dict()[name], expected)
    with pytest.raises(UnsupportedError, match=r"no names for the latent ×2 upscaler's network; save it as a folder"):
        save_model(model, tmp_path / "it.safetensors", layout="ldm")
    assert not (tmp_path / "it.safetensors").exists()
