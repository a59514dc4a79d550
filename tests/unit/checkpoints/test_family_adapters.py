"""Adapters on a model of every family: each finds every layer that it is for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_families import FAMILIES, our_networks
from torch import nn

from sfumato.adapters import open_adapter
from sfumato.adapters.embeddings import open_embeddings
from sfumato.checkpoints.components import UNET
from sfumato.checkpoints.diffusers_layout import text_keys

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
PEFT = {"unet": "unet.", "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2."}


def attention(networks: dict[str, Any]) -> dict[tuple[str, str], nn.Linear]:
    """The projections of attention in U-Net and text encoders, by network and by their names in diffusers."""
    found: dict[tuple[str, str], nn.Linear] = {}
    for name, network in networks.items():
        if name == "vae":
            continue
        keys = (UNET.keys if name == "unet" else text_keys)(network.config)
        for ours, layer in network.named_modules():
            if ours.rpartition(".")[2] in ("to_q", "to_k", "to_v", "to_out") and isinstance(layer, nn.Linear):
                found[name, keys.to_theirs(f"{ours}.weight").removesuffix(".weight")] = layer
    return found


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_lora_finds_its_layers(name: str, dialect: str, tmp_path: Path) -> None:
    networks = our_networks(FAMILIES[name])
    layers = attention(networks)
    tensors: dict[str, torch.Tensor] = {}
    for (network, theirs), layer in layers.items():
        stem, ends = (
            (KOHYA[network] + theirs.replace(".", "_"), ("lora_down", "lora_up"))
            if dialect == "kohya"
            else (PEFT[network] + theirs, ("lora_A", "lora_B"))
        )
        tensors[f"{stem}.{ends[0]}.weight"] = torch.randn(2, layer.in_features)
        tensors[f"{stem}.{ends[1]}.weight"] = torch.randn(layer.out_features, 2)
    save_file(tensors, tmp_path / "lora.safetensors")
    del networks["vae"]
    report = open_adapter(tmp_path / "lora.safetensors", networks).report
    assert report.unmatched == ()
    assert report.matched == {network: sum(where == network for where, _ in layers) for network in networks}
    assert all(report.matched.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_an_embedding_fits_its_text_encoders(name: str, tmp_path: Path) -> None:
    encoders = {part: network for part, network in our_networks(FAMILIES[name]).items() if "text" in part}
    widths = {part: encoder.config.width for part, encoder in encoders.items()}
    keys = (
        {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
        if len(widths) == 2
        else dict.fromkeys(widths, "emb_params")
    )
    save_file({keys[part]: torch.randn(3, width) for part, width in widths.items()}, tmp_path / "zorp.safetensors")
    (embedding,) = open_embeddings(tmp_path / "zorp.safetensors", encoders)
    assert {part: tuple(rows.shape) for part, rows in embedding.vectors.items()} == {
        part: (3, width) for part, width in widths.items()
    }
