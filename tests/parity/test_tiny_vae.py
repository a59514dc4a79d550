"""Tiny autoencoders against diffusers', through its folders and through TAESD's own two files."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from sfumato.checkpoints.tiny_layout import (
    TINY_VAE,
    open_tiny_files,
    read_tiny_config,
    taesd_decoder_keys,
    taesd_encoder_keys,
    write_tiny_config,
)
from sfumato.errors import ConfigError, OptionError
from sfumato.models import TinyVAEConfig


@pytest.fixture(scope="module")
def theirs() -> diffusers.AutoencoderTiny:
    torch.manual_seed(0)
    return diffusers.AutoencoderTiny().eval()


@torch.no_grad()
def test_the_same_latents_and_pixels(theirs: diffusers.AutoencoderTiny, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    ours = TINY_VAE.open(tmp_path)
    assert ours.config == TinyVAEConfig()
    assert sum(parameter.numel() for parameter in ours.parameters()) == 2_445_063
    pixels, latents = torch.rand(1, 3, 32, 40) * 2 - 1, 2 * torch.randn(1, 4, 4, 5)
    torch.testing.assert_close(ours.encode(pixels).mode(), theirs.encode(pixels).latents)
    torch.testing.assert_close(ours.encode(pixels).sample(torch.randn(1, 4, 4, 5)), theirs.encode(pixels).latents)
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).sample)
    assert ours.scale == 8

    TINY_VAE.save(ours, tmp_path / "again")
    again = diffusers.AutoencoderTiny.from_pretrained(tmp_path / "again")
    weights = again.state_dict()
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(weights[key], tensor)


@torch.no_grad()
def test_taesd_files(theirs: diffusers.AutoencoderTiny, tmp_path: Path) -> None:
    """TAESD's decoder begins with a layer that limits latents, and so counts one further than diffusers."""
    encoder = {
        key.removeprefix("encoder.layers."): t for key, t in theirs.encoder.state_dict(prefix="encoder.").items()
    }
    decoder = {}
    for key, tensor in theirs.decoder.state_dict().items():
        _, number, rest = key.split(".", 2)
        decoder[f"{int(number) + 1}.{rest}"] = tensor
    save_file(decoder, tmp_path / "taesd_decoder.safetensors")
    torch.save(encoder, tmp_path / "taesd_encoder.pth")
    latents, pixels = torch.randn(1, 4, 4, 5), torch.rand(1, 3, 32, 40)
    ours = open_tiny_files(tmp_path / "taesd_decoder.safetensors")
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).sample)
    with pytest.raises(OptionError, match="opened without its encoder"):
        ours.encode(pixels)
    both = open_tiny_files(tmp_path / "taesd_decoder.safetensors", tmp_path / "taesd_encoder.pth")
    torch.testing.assert_close(both.encode(pixels).mode(), theirs.encode(pixels).latents)
    with pytest.raises(ConfigError, match="holds the encoder; give the decoder first"):
        open_tiny_files(tmp_path / "taesd_encoder.pth")
    # The tables are read both ways.
    for keys, half in ((taesd_decoder_keys, decoder), (taesd_encoder_keys, encoder)):
        names = keys(TinyVAEConfig())
        assert {names.to_theirs(names.to_ours(key)) for key in half} == half.keys()


def test_configs() -> None:
    config = TinyVAEConfig(width=16, latent_channels=16, encoder_blocks=(1, 2), decoder_blocks=(2, 1))
    assert read_tiny_config(write_tiny_config(config)) == config
    assert read_tiny_config(json.loads(diffusers.AutoencoderTiny().to_json_string())) == TinyVAEConfig()
    for change, message in (
        ({"act_fn": "gelu"}, 'act_fn is "gelu"'),
        ({"encoder_block_out_channels": [64, 32, 64, 64]}, "the same number on every level"),
        ({"num_decoder_blocks": [3, 1]}, "the same number on every level"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_tiny_config(write_tiny_config(TinyVAEConfig()) | change)
