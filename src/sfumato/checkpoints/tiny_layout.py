"""Tiny autoencoders in files: as diffusers has them, and as TAESD's two files do. Configs and names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.components import Component
from sfumato.checkpoints.configs import check_class
from sfumato.checkpoints.filling import load_weights
from sfumato.checkpoints.keys import KeyMap, Table, under
from sfumato.checkpoints.options import MOST_BLOCKS, Options
from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.checkpoints.unfilled import unfilled
from sfumato.errors import ConfigError
from sfumato.models import TinyAutoencoder, TinyVAEConfig

FIXED: dict[str, Any] = {
    "act_fn": "relu",
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "shift_factor": 0.0,
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
}

BLOCK: Table = (("conv.0", "conv1"), ("conv.2", "conv2"), ("conv.4", "conv3"))


def read_tiny_config(values: Mapping[str, Any], where: str = "vae config") -> TinyVAEConfig:
    """Read the config of an AutoencoderTiny. Raises ConfigError for options that Sfumato does not implement, or of wrong type."""
    check_class(values, "AutoencoderTiny", where)
    options = Options(values, where)
    encoder = options.integers("num_encoder_blocks", [1, 3, 3, 3], most=MOST_BLOCKS)
    decoder = options.integers("num_decoder_blocks", [3, 3, 3, 1], most=MOST_BLOCKS)
    names = ("encoder_block_out_channels", "decoder_block_out_channels", "block_out_channels")
    widths = [options.integers(name, [64] * len(decoder)) for name in names]
    if len({width for each in widths for width in each}) > 1 or len(encoder) != len(decoder):
        raise options.wrong(names[0], list(widths[0]), "the same number on every level of encoder and decoder")
    config = TinyVAEConfig(
        in_channels=options.integer("in_channels", 3),
        out_channels=options.integer("out_channels", 3),
        latent_channels=options.integer("latent_channels", 4),
        width=widths[0][0],
        encoder_blocks=encoder,
        decoder_blocks=decoder[::-1],
        scaling_factor=options.number("scaling_factor", 1.0),
    )
    options.fixed(FIXED)
    options.ignore("force_upcast")
    options.finish()
    return config


def write_tiny_config(config: TinyVAEConfig) -> dict[str, Any]:
    """Write the config of an AutoencoderTiny."""
    widths = [config.width] * len(config.decoder_blocks)
    return {
        "_class_name": "AutoencoderTiny",
        "act_fn": "relu",
        "block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "encoder_block_out_channels": widths,
        "in_channels": config.in_channels,
        "latent_channels": config.latent_channels,
        "num_decoder_blocks": list(reversed(config.decoder_blocks)),
        "num_encoder_blocks": list(config.encoder_blocks),
        "out_channels": config.out_channels,
        "scaling_factor": config.scaling_factor,
    }


def tiny_vae_keys(config: TinyVAEConfig) -> KeyMap:
    """Names of AutoencoderTiny."""
    return KeyMap(
        under("encoder.layers", "encoder", encoder_table(config))
        + under("decoder.layers", "decoder", decoder_table(config))
    )


def taesd_encoder_keys(config: TinyVAEConfig) -> KeyMap:
    """Names of TAESD's encoder, in a file of its own."""
    return KeyMap(under("", "encoder", encoder_table(config)))


def taesd_decoder_keys(config: TinyVAEConfig) -> KeyMap:
    """Names of TAESD's decoder, in a file of its own: it counts the limiting of latents as its first layer."""
    return KeyMap(under("", "decoder", decoder_table(config, first=1)))


def encoder_table(config: TinyVAEConfig) -> Table:
    """The encoder's layers by number, which is the same everywhere."""
    table: Table = (("0", "0"),)
    at = 1
    for level, blocks in enumerate(config.encoder_blocks):
        if level > 0:
            table += ((f"{at}", f"{at}"),)
            at += 1
        for _ in range(blocks):
            table += under(f"{at}", f"{at}", BLOCK)
            at += 1
    return (*table, (f"{at}", f"{at}"))


def decoder_table(config: TinyVAEConfig, first: int = 0) -> Table:
    """The decoder's layers by number, theirs counting from `first`."""
    table: Table = ((f"{first}", "0"),)
    at = 2  # after ReLU
    for level, blocks in reversed(list(enumerate(config.decoder_blocks))):
        for _ in range(blocks):
            table += under(f"{at + first}", f"{at}", BLOCK)
            at += 1
        if level > 0:
            table += ((f"{at + 1 + first}", f"{at + 1}"),)  # after the enlargement
            at += 2
    return (*table, (f"{at + first}", f"{at}"))


TINY_VAE: Component[TinyVAEConfig, TinyAutoencoder] = Component(
    name="vae",
    stem="diffusion_pytorch_model",
    read_config=read_tiny_config,
    write_config=write_tiny_config,
    build=TinyAutoencoder,
    config_of=lambda network: network.config,
    keys=tiny_vae_keys,
)


def open_tiny_files(
    decoder: Path, encoder: Path | None = None, dtype: torch.dtype | None = None, config: TinyVAEConfig | None = None
) -> TinyAutoencoder:
    """Open TAESD's or TAESDXL's files: the decoder, and the encoder where pictures are to be encoded too; or diffusers' one file.

    Raises ConfigError for a file that is none of these, and as `load_weights`.
    """
    config = config or TinyVAEConfig()
    with open_tensors(decoder) as file:
        names = frozenset(file.keys())
    whole = "decoder.layers.0.weight" in names
    if not whole and "1.weight" not in names:
        other = "the encoder; give the decoder first" if "0.weight" in names else "no tiny autoencoder"
        raise ConfigError(f"{decoder} holds {other}; expected taesd_decoder, or diffusers' AutoencoderTiny")
    with unfilled():
        network = TinyAutoencoder(config, encoder=whole or encoder is not None)
    if whole:
        load_weights(network, [decoder], tiny_vae_keys(config), dtype)
        return network.eval()
    load_weights(network.decoder, [decoder], KeyMap(decoder_table(config, first=1)), dtype)
    if encoder is not None and network.encoder is not None:
        load_weights(network.encoder, [encoder], KeyMap(encoder_table(config)), dtype)
    return network.eval()
