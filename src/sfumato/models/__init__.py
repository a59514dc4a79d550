"""The networks: tensors in, tensors out. No file, no device policy, no prompt."""

from sfumato.models.clip_text import CLIPTextConfig, CLIPTextEncoder, TextEncoding
from sfumato.models.clip_vision import CLIPVisionConfig, CLIPVisionEncoder
from sfumato.models.safety_checker import SafetyChecker, SafetyCheckerConfig, SafetyVerdict
from sfumato.models.tiny_vae import TinyAutoencoder, TinyVAEConfig
from sfumato.models.unet import KeysValues, Told, UNet, UNetConfig
from sfumato.models.vae import AutoencoderKL, LatentDistribution, VAEConfig

__all__ = [
    "AutoencoderKL",
    "CLIPTextConfig",
    "CLIPTextEncoder",
    "CLIPVisionConfig",
    "CLIPVisionEncoder",
    "KeysValues",
    "LatentDistribution",
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
