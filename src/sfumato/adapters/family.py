"""Which family of models an adapter was made for, by the widths of what its layers read."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from sfumato.adapters.dialects import FOREIGN
from sfumato.adapters.layouts import unwrapped
from sfumato.models import CLIPTextEncoder, LatentUpscaler, UNet

# Width of the text that the U-Net reads → family.
BY_CONTEXT: Mapping[int, str] = {
    768: "Stable Diffusion 1",
    1024: "Stable Diffusion 2",
    2048: "Stable Diffusion XL",
    1280: "the refiner of Stable Diffusion XL",
}

Groups = Mapping[str, Mapping[str, Tensor]]
"""A file's tensors: by the layer's name in the file, then by part."""


def mismatch(groups: Groups, networks: Mapping[str, nn.Module]) -> str | None:
    """Why a file is for another family than these networks; None if nothing says so."""
    if (
        len(networks) > 0
        and "text_encoder_2" not in networks
        and any("te2_" in name or "text_encoder_2" in name for name in groups)
    ):
        return f"it is for {BY_CONTEXT[2048]}: it changes a second text encoder, and this model has one"
    unet, encoder = (unwrapped(networks[name]) if name in networks else None for name in ("unet", "text_encoder"))
    if isinstance(unet, UNet | LatentUpscaler) and (wrong := set(context_widths(groups)) - {unet.config.context_dim}):
        return said(min(wrong), "its U-Net reads a text", unet.config.context_dim)
    if isinstance(encoder, CLIPTextEncoder) and (wrong := set(text_widths(groups)) - {encoder.config.width}):
        return said(min(wrong), "its text encoder is", encoder.config.width)
    return None


def foreign(groups: Groups) -> str | None:
    """The architecture that a file's names tell of, where it is none of Stable Diffusion's U-Nets."""
    return next((kind for word, kind in FOREIGN.items() if any(word in name for name in groups)), None)


def said(width: int, what: str, own: int) -> str:
    """Two widths, and the families they are known from."""
    family, ours = BY_CONTEXT.get(width, "a model of another family"), BY_CONTEXT.get(own)
    return f"it is for {family}: {what} {width} wide, and this model's {own}{f' ({ours})' if ours else ''}"


def context_widths(groups: Groups) -> Iterator[int]:
    """What the keys and values of attention to the text read, in each layer that says so."""
    for name, parts in groups.items():
        flat = name.replace("_", ".")
        if "attn2" in flat and flat.endswith(("to.k", "to.v")) and (width := input_width(parts)) is not None:
            yield width


def text_widths(groups: Groups) -> Iterator[int]:
    """What the projections of the first, or only, text encoder read."""
    for name, parts in groups.items():
        flat = name.replace("_", ".")
        first = "te2." not in flat and "text.encoder.2" not in flat
        if first and "self.attn" in flat and (width := input_width(parts)) is not None:
            yield width


def input_width(parts: Mapping[str, Tensor]) -> int | None:
    """What a layer reads, by the parts of a change; None if they don't say."""
    for name in ("lora_down", "hada_w1_b", "diff"):
        if name in parts and parts[name].ndim >= 2:
            return parts[name].shape[1]
    first, second = (parts.get(f"lokr_{w}", parts.get(f"lokr_{w}_b")) for w in ("w1", "w2"))
    if first is not None and second is not None and min(first.ndim, second.ndim) >= 2:
        return first.shape[1] * second.shape[1]
    return None
