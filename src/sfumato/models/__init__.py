"""The networks: tensors in, tensors out. No file, no device policy, no prompt."""

from typing import TypeAlias

from sfumato.models.clip_text import CLIPTextConfig, CLIPTextEncoder, TextEncoding
from sfumato.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder
from sfumato.models.latent_upscaler import LatentUpscaler, LatentUpscalerConfig
from sfumato.models.safety_checker import SafetyChecker, SafetyCheckerConfig, SafetyVerdict
from sfumato.models.tiny_vae import TinyAutoencoder, TinyVAEConfig
from sfumato.models.unet import KeysValues, Told, UNet, UNetConfig
from sfumato.models.vae import AutoencoderKL, LatentDistribution, VAEConfig

__all__ = [
    "AnyUNet",
    "AnyUNetConfig",
    "AutoencoderKL",
    "CLIPTextConfig",
    "CLIPTextEncoder",
    "CLIPVisionConfig",
    "CLIPVisionEncoder",
    "KeysValues",
    "LatentDistribution",
    "LatentUpscaler",
    "LatentUpscalerConfig",
    "SafetyChecker",
    "SafetyCheckerConfig",
    "SafetyVerdict",
    "TextEncoding",
    "TinyAutoencoder",
    "TinyVAEConfig",
    "Told",
    "UNet",
    "UNetConfig",
    "VAEConfig",
]

AnyUNet: TypeAlias = UNet | LatentUpscaler
"""What stands in a model's folder as its U-Net."""

AnyUNetConfig: TypeAlias = UNetConfig | LatentUpscalerConfig
"""The config of either."""
