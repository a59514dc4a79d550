"""Which layers and attentions of a U-Net are computed in int8, and the scales of what goes into them, taken from a run that shows what that is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from sfumato import native
from sfumato.errors import ConfigError, OptionError, UnsupportedError
from sfumato.models.attention import Attention
from sfumato.models.convolution import Conv2d
from sfumato.models.int8 import Int8, Scale, check_supported
from sfumato.models.linear import Linear
from sfumato.models.packing import drop_packed, unpacked
from sfumato.models.unet import UNet
from sfumato.pages import Leaving

FORMAT = "sfumato int8 2"
"""What a file of scales says it is."""
SAMPLED = 8
"""Rows of each layer's weights, and about as many numbers of each, by which they are known again."""


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Which layers of a network are computed in int8, each with the scale of its input; None where that is taken from each input anew.

    products  attentions whose products are, too; their scales are taken from each query, key and block of values
    weights   `fingerprint` of the weights that the scales were taken with; None where there are none to take
    prompts   how many were drawn to take them
    """

    layers: Mapping[str, Scale | None]
    products: frozenset[str] = frozenset()
    weights: str | None = None
    prompts: int = 0

    @cached_property
    def name(self) -> str:
        """What recipes call it: "static" or "dynamic", as the layers' scales are, and a digest of all but the weights."""
        what = json.dumps([self._layers(), sorted(self.products)] if self.products else self._layers(), sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:16]
        return f"{'dynamic' if None in self.layers.values() else 'static'}-{digest}"

    def to_json(self) -> str:
        """The scales as a file has them."""
        head = json.dumps(
            {"format": FORMAT, "weights": self.weights, "prompts": self.prompts, "products": sorted(self.products)}
        )
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(scale)}" for name, scale in self._layers().items())
        return f'{head[:-1]}, "layers": {{\n{lines}\n}}}}\n'

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Quantisation:
        """Read what `to_json` wrote, in a file of that name. Raises ConfigError for what is no such file, or damaged."""
        try:
            values: Any = json.loads(text)
            if values["format"] != FORMAT:
                return _refused(name, f"it says {values['format']!r}, not {FORMAT!r}")
            layers = {layer: _scale(pair) for layer, pair in cast("dict[str, Any]", values["layers"]).items()}
            products = frozenset(str(name) for name in values["products"])
            return cls(layers=layers, products=products, weights=str(values["weights"]), prompts=int(values["prompts"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return _refused(name, f"no {error}" if isinstance(error, KeyError) else str(error))

    def _layers(self) -> dict[str, tuple[float, int] | None]:
        return {name: None if scale is None else (scale.scale, scale.zero) for name, scale in self.layers.items()}


def quantise(unet: UNet, quantisation: Quantisation) -> None:
    """Let the layers and products that it names be computed in int8, and no others, from now on; products where there is a kernel for them.

    Weights, names and state dict stay what they are. Raises UnsupportedError where int8 can't be computed, ConfigError for layers that
    the network has not.
    """
    check_supported()
    can, attentions = layers_of(unet), attentions_of(unet)
    if strangers := (quantisation.layers.keys() - can.keys()) | (quantisation.products - attentions.keys()):
        raise ConfigError(
            f"the scales are for {len(strangers)} layers that the U-Net has not, such as {min(strangers)}; take them again, with "
            "pipe.quantize(prompts=…)"
        )
    dequantise(unet)
    drop_packed(unet)
    leaving = Leaving()
    for name, scale in quantisation.layers.items():
        can[name].int8 = Int8(scale, leaving)
    for name in quantisation.products:
        attentions[name].in_bytes = True
    unet.quantisation = quantisation


def dequantise(unet: UNet) -> None:
    """Compute all layers in float again, with the weights as they are."""
    for layer in unet.modules():
        if isinstance(layer, Linear | Conv2d):
            layer.int8 = None
        if isinstance(layer, Attention):
            layer.in_bytes = False
    unet.quantisation = None


def quantisation_of(network: nn.Module) -> Quantisation | None:
    """By what a network, or what torch.compile wrapped, is computed in int8; None where it is not."""
    return getattr(network, "quantisation", None)


def dynamic(unet: UNet) -> Quantisation:
    """All layers and products that can be in int8, with the scales of each input taken as it comes."""
    return Quantisation(layers=dict.fromkeys(layers_of(unet)), products=frozenset(attentions_of(unet)))


def without(quantisation: Quantisation, parts: Sequence[str]) -> Quantisation:
    """The same without the layers and products in whose names one of the parts is. Raises OptionError for a part that is in none."""
    names = (*quantisation.layers, *quantisation.products)
    if strange := [part for part in parts if not any(part in name for name in names)]:
        raise OptionError(
            f"{strange[0]!r} is in the name of no int8 layer; they are such as {next(iter(quantisation.layers))}"
        )
    left = [name for name in names if not any(part in name for part in parts)]
    layers = {name: scale for name, scale in quantisation.layers.items() if name in left}
    return replace(quantisation, layers=layers, products=quantisation.products.intersection(left))


def possible(quantisation: Quantisation) -> Quantisation:
    """What is computed of it here: the same, with products in float where this machine has no kernel for them (`native.why_not_in_bytes`)."""
    if quantisation.products and native.why_not_in_bytes() is not None:
        return replace(quantisation, products=frozenset())
    return quantisation


def layers_of(unet: UNet) -> dict[str, Linear | Conv2d]:
    """The layers that are computed in int8: the convolutions and projections of maps, in their order.

    In float stay the first and the last convolution, which see and make the latents; what is computed for a row and not for a map, the
    embeddings of time, text and sizes and their projections; and keys and values of the text, computed once an image.
    Raises UnsupportedError for a network of another make.
    """
    if not isinstance(unet, UNet):
        raise UnsupportedError(f"int8 is for the U-Nets of Stable Diffusion, uncompiled, not for {type(unet).__name__}")
    once = {layer for attention in unet.cross_attentions() for layer in (attention.to_k, attention.to_v)}
    return {
        name: layer
        for name, layer in unet.named_modules()
        if isinstance(layer, Linear | Conv2d)
        and name.startswith(("down.", "middle.", "up."))
        and not name.endswith("time_proj")
        and layer not in once
    }


def attentions_of(unet: UNet) -> dict[str, Attention]:
    """The attentions whose products are computed in int8, by the names of these: those of a map's positions to each other.

    Those to the text stay in float: they are few.
    """
    texts = set(unet.cross_attentions())
    return {
        f"{name}.products": layer
        for name, layer in unet.named_modules()
        if isinstance(layer, Attention) and name.startswith(("down.", "middle.", "up.")) and layer not in texts
    }


@contextmanager
def observing(unet: UNet) -> Generator[dict[str, Scale]]:
    """Inside the block, what goes into the layers is looked at, as they are computed in float; then, the scales that reach all of it.

    Scales that left out the rarest numbers, one in a thousand or in ten thousand, made worse pictures (docs/log.md).
    """
    before = quantisation_of(unet)
    dequantise(unet)
    seen: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Any:
        def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(bound) for bound in torch.aminmax(inputs[0]))
            least, greatest = seen.get(name, (0.0, 0.0))
            seen[name] = min(least, low), max(greatest, high)

        return hook

    scales: dict[str, Scale] = {}
    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers_of(unet).items()]
    try:
        with unpacked(unet):  # int8 lets go of packed weights
            yield scales
        scales.update({name: Scale.of(*seen[name]) for name in layers_of(unet) if name in seen})
    finally:
        for handle in handles:
            handle.remove()
        if before is not None:
            quantise(unet, before)


@torch.no_grad()
def fingerprint(unet: UNet) -> str:
    """A digest of some numbers of each layer's weights: equal for the weights that scales were taken with, whatever they are stored in."""
    digest = hashlib.sha256()
    for layer in layers_of(unet).values():
        stored = layer._parameters["weight"]
        assert stored is not None, "such layers have a weight"
        rows = stored[:: max(1, len(stored) // SAMPLED)].flatten(1)
        some = rows[:, :: max(1, rows.shape[1] // SAMPLED)]
        digest.update(some.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _refused(name: str, reason: str) -> NoReturn:
    raise ConfigError(f"{name} holds no scales for int8 ({reason}); take them again, with pipe.quantize(prompts=…)")


def _scale(pair: Any) -> Scale:
    scale, zero = pair
    scale, zero = float(scale), int(zero)
    if not (0 < scale < float("inf") and 0 <= zero <= 255):
        raise ValueError(f"{pair} is no scale with its zero")
    return Scale(scale, zero)
