"""Both kinds of U-Net in diffusers' layout, which names them alike: read, built and named as whichever a config is of."""

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.checkpoints.configs import read_unet_config, write_unet_config
from sfumato.checkpoints.diffusers_layout import unet_keys
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.latent_upscaler import (
    SIGN,
    is_latent_upscaler,
    latent_upscaler_keys,
    latent_upscaler_sizes,
    read_latent_upscaler_config,
    write_latent_upscaler_config,
)
from sfumato.checkpoints.sizes import UNetNames, settled, unet_sizes
from sfumato.models import AnyUNet, AnyUNetConfig, LatentUpscaler, LatentUpscalerConfig, UNet
from sfumato.variants import Family


def read_config(values: Mapping[str, Any], where: str = "unet config") -> AnyUNetConfig:
    """Read the config of a UNet2DConditionModel. Raises ConfigError for options that Sfumato does not implement, or of wrong type."""
    read = read_latent_upscaler_config if is_latent_upscaler(values) else read_unet_config
    return read(values, where)


def write_config(config: AnyUNetConfig) -> dict[str, Any]:
    """Write the config of a UNet2DConditionModel."""
    if isinstance(config, LatentUpscalerConfig):
        return write_latent_upscaler_config(config)
    return write_unet_config(config)


def build(config: AnyUNetConfig) -> AnyUNet:
    """The network of a config."""
    return LatentUpscaler(config) if isinstance(config, LatentUpscalerConfig) else UNet(config)


def keys_of(config: AnyUNetConfig) -> KeyMap:
    """Names of UNet2DConditionModel."""
    return latent_upscaler_keys(config) if isinstance(config, LatentUpscalerConfig) else unet_keys(config)


def sizes_of(shapes: Mapping[str, Sequence[int]], names: UNetNames) -> AnyUNetConfig:
    """The config of a U-Net from its tensors by name, as far as shapes tell it. Raises ConfigError for one that is built in no regular way."""
    return latent_upscaler_sizes(shapes) if SIGN in shapes else unet_sizes(shapes, names)


def settled_as(config: AnyUNetConfig, family: Family) -> AnyUNetConfig:
    """The config with what no shape tells and its family does. Raises ConfigError where its heads don't divide its channels."""
    if isinstance(config, LatentUpscalerConfig):
        family.heads(config.channels)
        return config
    return settled(config, family)
