import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.checkpoints.clip_configs import (
    read_safety_config,
    read_text_config,
    write_safety_config,
    write_text_config,
)
from sfumato.checkpoints.configs import read_unet_config, read_vae_config, write_unet_config, write_vae_config
from sfumato.errors import ConfigError
from sfumato.models import (
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextEncoder,
    CLIPVisionConfig,
    SafetyChecker,
    SafetyCheckerConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)

# The configs of Stable Diffusion 1.4 as it was released, of which each option not given is at its default.
SD14_UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
SD14_VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
SD14_TEXT = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "torch_dtype": "float32",
    "transformers_version": "4.21.0.dev0",
    "vocab_size": 49408,
}
VIT_L14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
SD14_SAFETY = {
    "architectures": ["StableDiffusionSafetyChecker"],
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "temperature": 1.0, "top_k": 50},
    "text_config_dict": {"hidden_size": 768},
    "vision_config": {"hidden_act": "quick_gelu", "image_size": 224, "layer_norm_eps": 1e-05, **VIT_L14, "top_p": 1.0},
    "vision_config_dict": VIT_L14,
}

Read = Callable[[Mapping[str, Any], str], Any]
RELEASED: dict[str, tuple[Read, Callable[[Any], Any], dict[str, Any]]] = {
    "unet": (read_unet_config, UNet, SD14_UNET),
    "vae": (read_vae_config, AutoencoderKL, SD14_VAE),
    "text encoder": (read_text_config, CLIPTextEncoder, SD14_TEXT),
    "safety checker": (read_safety_config, SafetyChecker, SD14_SAFETY),
}


def test_stable_diffusion_1_4_is_what_our_defaults_say() -> None:
    assert read_unet_config(SD14_UNET) == UNetConfig()
    assert read_vae_config(SD14_VAE) == VAEConfig()
    assert read_text_config(SD14_TEXT) == replace(CLIPTextConfig(), eos_token_id=2)
    assert read_safety_config(SD14_SAFETY) == SafetyCheckerConfig()


def test_stable_diffusion_2_1_opens() -> None:
    given = SD14_UNET | {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "dual_cross_attention": False,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "sample_size": 96,
        "upcast_attention": True,
        "use_linear_projection": True,
    }
    assert read_unet_config(given) == replace(
        UNetConfig(), heads=(5, 10, 20, 20), context_dim=1024, linear_projection=True, sample_size=96
    )


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(
            in_channels=9,
            channels=(64, 128, 192),
            blocks_per_level=1,
            attention=(False, True, True),
            heads=(1, 4, 6),
            depth=(1, 1, 2),
            context_dim=128,
            linear_projection=True,
            norm_groups=16,
            norm_eps=1e-6,
            sample_size=16,
        ),
        UNetConfig(sizes_width=2816),
        UNetConfig(sizes_width=90, size_width=8, noise_levels=40, guidance_width=12),
        UNetConfig(only_cross=(True, False, True, False)),
    ],
)
def test_unet_configs_come_back(config: UNetConfig) -> None:
    assert read_unet_config(json.loads(json.dumps(write_unet_config(config)))) == config


def test_other_configs_come_back() -> None:
    vae = VAEConfig(channels=(32, 64, 64), norm_groups=8, blocks_per_level=1, scaling_factor=0.7, sample_size=64)
    assert read_vae_config(json.loads(json.dumps(write_vae_config(vae)))) == vae
    text = CLIPTextConfig(
        vocab_size=900, width=64, layers=3, heads=2, activation="gelu", eos_token_id=899, projection_dim=32
    )
    assert read_text_config(json.loads(json.dumps(write_text_config(text)))) == text
    safety = SafetyCheckerConfig(
        vision=CLIPVisionConfig(image_size=32, patch_size=8, width=32, heads=4), projection_dim=16
    )
    assert read_safety_config(json.loads(json.dumps(write_safety_config(safety)))) == safety


SIZES = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
ATTENDING_EVERYWHERE = {"down_block_types": ["CrossAttnDownBlock2D"] * 4, "up_block_types": ["CrossAttnUpBlock2D"] * 4}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("unet", {"_class_name": "FluxTransformer2DModel"}, "_class_name is 'FluxTransformer2DModel'"),
        ("unet", {"freq_shift": 1}, "freq_shift is 1; expected 0, the only value"),
        ("unet", {"class_embed_type": "projection"}, 'class_embed_type is "projection"; expected null'),
        ("unet", {"addition_embed_type": "text_image"}, 'addition_embed_type is "text_image"; expected text_time'),
        ("unet", {"addition_embed_type": "text_time"}, "projection_class_embeddings_input_dim is not given"),
        ("unet", {"addition_time_embed_dim": 256}, "addition_time_embed_dim is 256; expected null"),
        ("unet", SIZES | {"addition_time_embed_dim": 255}, "an even number below 2816"),
        ("unet", SIZES | {"addition_time_embed_dim": 4000}, "an even number below 2816"),
        ("unet", {"only_cross_attention": [True, True, True]}, "only_cross_attention is .* a list of 4"),
        ("unet", {"only_cross_attention": [True, True, True, 1]}, "only_cross_attention is .* a list of 4"),
        ("unet", {"only_cross_attention": "yes"}, 'only_cross_attention is "yes"; expected true or false'),
        ("unet", {"only_cross_attention": True, **ATTENDING_EVERYWHERE}, "a plain true changes the middle too"),
        ("unet", {"mid_block_only_cross_attention": True}, "mid_block_only_cross_attention is true"),
        ("unet", {"num_class_embeds": 0}, "num_class_embeds is 0; expected a whole number from 1"),
        ("unet", {"num_attention_heads": 8}, "num_attention_heads is 8; expected null"),
        ("unet", {"mid_block_type": None}, "mid_block_type is null"),
        ("unet", {"block_out_channels": "320"}, 'block_out_channels is "320"; expected a list'),
        ("unet", {"block_out_channels": [320, 640.5]}, r"block_out_channels is \[320, 640.5\]"),
        ("unet", {"block_out_channels": []}, r"block_out_channels is \[\]; expected a list"),
        ("unet", {"block_out_channels": [321, 640, 1280, 1280]}, "an even first number"),
        ("unet", {"norm_num_groups": 7}, "norm_num_groups is 7; expected a divisor"),
        ("unet", {"attention_head_dim": 7}, "7 attention heads do not divide a width of 320"),
        ("unet", {"attention_head_dim": [8, 8]}, "expected 4 numbers, one for each level"),
        ("unet", {"layers_per_block": [2, 2, 2, 3]}, "the same number on every level"),
        ("unet", {"layers_per_block": True}, "layers_per_block is true; expected a whole number"),
        ("unet", {"layers_per_block": 10**9}, "layers_per_block is 1000000000; expected a whole number from 1 to 16"),
        ("unet", {"norm_eps": -1}, "norm_eps is -1; expected a number above 0"),
        ("unet", {"norm_eps": 10**400}, "norm_eps is 1000"),
        ("unet", {"use_linear_projection": "yes"}, 'use_linear_projection is "yes"; expected true or false'),
        ("unet", {"down_block_types": ["DownBlock2D"]}, "expected 4 names"),
        ("unet", {"down_block_types": ["DownBlock2D"] * 4}, "up_block_types is .*expected the mirror image"),
        ("unet", {"down_block_types": ["AttnDownBlock2D"] * 4}, "down_block_types is .*expected a list of CrossAttn"),
        ("unet", {"quantum": 3}, "quantum is 3; expected it to be off"),
        ("vae", {"_class_name": "AutoencoderTiny"}, "_class_name is 'AutoencoderTiny'"),
        ("vae", {"latents_mean": [0.5]}, "latents_mean is"),
        ("vae", {"use_quant_conv": False}, "use_quant_conv is false; expected true"),
        ("vae", {"down_block_types": ["DownEncoderBlock2D"]}, "expected 4 names"),
        ("vae", {"scaling_factor": None}, "scaling_factor is not given"),
        ("text encoder", {"architectures": ["T5EncoderModel"]}, "architectures names 'T5EncoderModel'"),
        ("text encoder", {"architectures": 5}, "architectures names 5"),
        ("text encoder", {"use_attention_mask": True}, "use_attention_mask is set"),
        ("text encoder", {"hidden_act": "relu"}, 'hidden_act is "relu"; expected quick_gelu or gelu'),
        ("text encoder", {"num_attention_heads": 7}, "7 attention heads do not divide a width of 768"),
        ("safety checker", {"vision_config": [1]}, "vision_config is a list; expected an object"),
        (
            "safety checker",
            {"vision_config_dict": VIT_L14 | {"patch_size": 500}},
            "patch_size is 500; expected at most",
        ),
    ],
)
def test_what_is_not_implemented_is_refused(kind: str, change: dict[str, Any], message: str) -> None:
    read, _, released = RELEASED[kind]
    with pytest.raises(ConfigError, match=message) as caught:
        read(released | change, "the/config.json")
    assert str(caught.value).startswith("the/config.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["\x1b[2J\nevil", "x" * 500])
def test_an_option_s_name_is_said_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_unet_config({name: "os.system"}, "config")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_flag_that_is_null_is_off() -> None:
    flags = (
        "class_embeddings_concat",
        "dual_cross_attention",
        "only_cross_attention",
        "resnet_skip_time_act",
        "use_linear_projection",
    )
    assert read_unet_config(SD14_UNET | dict.fromkeys(flags)) == UNetConfig()
    with pytest.raises(ConfigError, match="use_quant_conv is null; expected true"):
        read_vae_config(SD14_VAE | {"use_quant_conv": None})


def test_what_training_left_in_a_config_is_accepted() -> None:
    left = {
        "decay": 0.9999,
        "inv_gamma": 1.0,
        "min_decay": 0.0,
        "optimization_step": 12000,
        "power": 2 / 3,
        "update_after_step": 0,
        "use_ema_warmup": True,
        "dtype": "float16",
        "torch_dtype": "float32",
    }
    assert read_unet_config(SD14_UNET | left) == UNetConfig()
    assert read_vae_config(SD14_VAE | left) == VAEConfig()
    assert read_text_config(SD14_TEXT | left) == read_text_config(SD14_TEXT)


def test_a_text_encoder_within_the_config_of_a_whole_clip() -> None:
    whole = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 768, "text_config": SD14_TEXT}
    assert read_text_config(whole) == read_text_config(SD14_TEXT)
    projected = whole | {"architectures": ["CLIPTextModelWithProjection"]}
    assert read_text_config(projected | {"text_config": SD14_TEXT | {"projection_dim": 640}}).projection_dim == 640
    with pytest.raises(ConfigError, match="text_config is a list; expected an object"):
        read_text_config(whole | {"text_config": [1]})
    with pytest.raises(ConfigError, match="text_config: hidden_act is"):
        read_text_config(whole | {"text_config": SD14_TEXT | {"hidden_act": "relu"}})


def test_the_older_vision_config_leaves_nothing_of_the_other() -> None:
    given = SD14_SAFETY | {"vision_config_dict": {"patch_size": 16}}
    assert read_safety_config(given).vision == CLIPVisionConfig(
        patch_size=16, width=768, layers=12, heads=12, mlp_width=3072
    )
    assert read_safety_config(SD14_SAFETY | {"vision_config_dict": None}) == SafetyCheckerConfig()


def test_unknown_options_that_are_off_are_accepted() -> None:
    assert read_unet_config(SD14_UNET | {"new_in_2030": None, "also_new": False, "_note": "x"}) == UNetConfig()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(RELEASED)), data=st.data())
def test_damaged_configs_are_read_or_refused_and_nothing_else(kind: str, data: st.DataObject) -> None:
    read, build, released = RELEASED[kind]
    damage = data.draw(st.dictionaries(st.sampled_from(sorted(released)), json_values, min_size=1, max_size=3))
    try:
        config = read(released | damage, "config")
        with torch.device("meta"):
            build(config)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)
