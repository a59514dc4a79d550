"""A tiny random model of every family: ours, or made by diffusers and transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.clip_configs import write_text_config
from sfumato.checkpoints.configs import write_vae_config
from sfumato.checkpoints.unets import build, write_config
from sfumato.models import (
    AnyUNetConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextEncoder,
    LatentUpscalerConfig,
    VAEConfig,
)
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.tokenizer_folder import TokenizerSpec
from sfumato.text.vocabulary import clip_vocabulary
from sfumato.variants import FAMILIES, Family

IN_ONE_FILE = [name for name, family in FAMILIES.items() if family.make != "latent-upscaler"]
"""Families that the layout of latent diffusion has names for."""

WIDTH, WIDTH_2 = 64, 128
"""Of text encoders, and of those that project, which diffusers tells apart by it. CLIP's have a head for each 64 channels."""


def tiny_unet(family: Family) -> AnyUNetConfig:
    """The U-Net of a family at a size that takes no time: half the levels, heads as wide as the family's rule has them."""
    levels = {"sd1": (True, False), "sd2": (True, False), "sdxl": (False, True), "refiner": (False, True, False)}
    if isinstance(family.unet, LatentUpscalerConfig):
        # The fewest levels there are, as wide as its heads, which no shape tells.
        return replace(family.unet, channels=(64, 128, 128), blocks_per_level=1, context_dim=WIDTH, sample_size=8)
    attention = levels.get(family.make, (False, True, True))
    channels = (32, 32, 64)[: len(attention)] if family.head_width is None else (64, 64, 64)[: len(attention)]
    context = sum(tiny_text(config).width for config in family.text_encoders.values())
    numbers = 5 if family.aesthetic else 6
    return replace(
        family.unet,
        channels=channels,
        attention=attention,
        heads=family.heads(channels),
        depth={"sdxl": (1, 2), "refiner": (2, 2, 2)}.get(family.make, (1,) * len(attention)),
        blocks_per_level=1,
        context_dim=context,
        only_cross=(False, True, False) if family.make == "upscaler" else (),
        sizes_width=WIDTH_2 + numbers * 256 if family.unet.sizes_width else None,
        noise_levels=40 if family.unet.noise_levels else None,
        guidance_width=16 if family.unet.guidance_width else None,
        sample_size=8,
    )


def tiny_vae(family: Family) -> VAEConfig:
    return replace(
        family.vae,
        channels=(32,) * len(family.vae.channels),
        blocks_per_level=1,
        sample_size=8 * 2 ** (len(family.vae.channels) - 1),
    )


def tiny_text(config: CLIPTextConfig) -> CLIPTextConfig:
    width = WIDTH_2 if config.projection_dim else WIDTH
    return replace(
        config,
        width=width,
        layers=3,
        heads=width // 64,
        mlp_width=96,
        projection_dim=width if config.projection_dim else None,
    )


def randomised(network: Any) -> Any:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def our_networks(family: Family) -> dict[str, Any]:
    """The networks of a tiny model of ours, by their names in a folder."""
    torch.manual_seed(0)
    networks: dict[str, Any] = {"unet": build(tiny_unet(family)), "vae": AutoencoderKL(tiny_vae(family))}
    networks |= {name: CLIPTextEncoder(tiny_text(config)) for name, config in family.text_encoders.items()}
    return {name: randomised(network) for name, network in networks.items()}


def save_tokenizers(family: Family, folder: Path) -> None:
    for name, padding in family.padding.items():
        Tokenizer(TokenizerSpec(vocabulary=clip_vocabulary(), pad=padding)).save(folder / name)


def build_family(family: Family, folder: Path, **options: Any) -> Any:
    """diffusers' pipeline of a tiny model, saved into the folder."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    save_tokenizers(family, folder)
    parts: dict[str, Any] = {
        "unet": randomised(diffusers.UNet2DConditionModel(**_plain(write_config(tiny_unet(family))))),
        "vae": randomised(diffusers.AutoencoderKL(**_plain(write_vae_config(tiny_vae(family))))),
        "scheduler": _scheduler(family.scheduler),
    }
    for name in ("text_encoder", "text_encoder_2"):
        config = family.text_encoders.get(name)
        if config is None and family.make not in ("sdxl", "refiner"):
            continue
        tokenizer = name.replace("text_encoder", "tokenizer")
        parts[name] = parts[tokenizer] = None
        if config is not None:
            kind = transformers.CLIPTextModelWithProjection if config.projection_dim else transformers.CLIPTextModel
            parts[name] = randomised(kind(transformers.CLIPTextConfig(**write_text_config(tiny_text(config)))))
            parts[tokenizer] = transformers.CLIPTokenizer.from_pretrained(folder / tokenizer)
    if family.low_res_scheduler is not None:
        parts["low_res_scheduler"] = _scheduler(family.low_res_scheduler)
    if family.name == "sd2-depth":
        parts["depth_estimator"], parts["feature_extractor"] = _depth_estimator()
    elif family.make in ("sd1", "sd2"):
        parts |= {"safety_checker": None, "feature_extractor": None}
    if family.make in ("sdxl", "refiner") and "Instruct" not in family.pipeline:
        options |= {"add_watermarker": False}
    pipe = getattr(diffusers, family.pipeline)(**parts, **(dict(family.options) | options))
    pipe.save_pretrained(folder)
    return pipe


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith("_")}


def _scheduler(config: Any) -> Any:
    import diffusers

    return getattr(diffusers, config["_class_name"])(**_plain(dict(config)))


def _depth_estimator() -> tuple[Any, Any]:
    import transformers

    config = transformers.DPTConfig(
        hidden_size=32, num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3], num_attention_heads=4,
        intermediate_size=37, num_labels=3, neck_hidden_sizes=[16, 16, 32, 32], image_size=32, patch_size=16,
        fusion_hidden_size=16, is_hybrid=False,
    )  # fmt: skip
    return transformers.DPTForDepthEstimation(config).eval(), transformers.DPTImageProcessor()


__all__ = ["FAMILIES", "IN_ONE_FILE", "build_family", "our_networks", "tiny_text", "tiny_unet", "tiny_vae"]
