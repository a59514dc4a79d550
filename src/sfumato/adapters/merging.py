"""Adapters merged into a network's weights, and the weights given back."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sfumato.adapters.adapter import Adapter
from sfumato.adapters.algorithms import Change, Layer
from sfumato.adapters.layouts import layer_for, unwrapped
from sfumato.errors import AdapterError


@dataclass(slots=True)
class Merger:
    """One network's merged adapters, and the parameters as they were: the same objects, still mapped from their file.

    On an accelerator what was there is kept in the machine's memory. Merging is computed from the original weights, in float32 at least, so
    adapters that are merged one after the other give what they give together.
    """

    merged: list[tuple[Adapter, float]] = field(default_factory=list[tuple[Adapter, float]])
    network: "weakref.ref[nn.Module] | None" = None
    """That which they are merged into; another one, put in its place, has nothing merged."""
    originals: dict[tuple[str, str], nn.Parameter | None] = field(
        default_factory=dict[tuple[str, str], nn.Parameter | None]
    )

    def merge(self, network: nn.Module, name: str, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Make these, with their weights, all that is merged into the network of that name; none gives back the original bits.

        Raises AdapterError, and leaves the network as it is, if a weight would become NaN or infinite in its precision.
        """
        network = self.meet(network)
        wanted: dict[str, list[tuple[Change, float]]] = {}
        for adapter, weight in adapters:
            for place, change in adapter.changes.get(name, {}).items():
                if weight:
                    wanted.setdefault(place, []).append((change, weight))
        made: dict[tuple[str, str], Tensor] = {}
        for place, changes in wanted.items():
            layer = layer_for(changes[0][0], network, place)
            weight, bias = (self._original(layer, place, part) for part in ("weight", "bias"))
            assert weight is not None, "such layers have a weight"
            for part, tensor in merged(weight, bias, changes).items():
                if not bool(torch.isfinite(tensor).all()):
                    raise overflow(adapters, f"{place}.{part} of the {name}", tensor.dtype)
                made[place, part] = tensor
        self.restore(network)
        for (place, part), tensor in made.items():
            layer = network.get_submodule(place)
            original = layer._parameters[part]
            self.originals[place, part] = kept(original)
            layer._parameters[part] = nn.Parameter(
                tensor, requires_grad=original is not None and original.requires_grad
            )
        self.merged = list(adapters)

    def restore(self, network: nn.Module) -> None:
        """Give back the original parameters, where the network is now, in the precision it now has."""
        network = self.meet(network)
        for (place, part), original in self.originals.items():
            layer = network.get_submodule(place)
            current = layer._parameters[part]
            if original is not None and current is not None:
                # The same object where nothing has moved; a cast rounds it as it would have rounded it unmerged.
                moved = original.to(current.device, current.dtype)
                original = original if moved is original else nn.Parameter(moved, requires_grad=original.requires_grad)
            layer._parameters[part] = original
        self.originals.clear()
        self.merged = []

    def cast(self, dtype: torch.dtype) -> None:
        """Round the originals too, when the network is cast: unmerged, it is what it would be had nothing been merged."""
        for key, original in self.originals.items():
            if original is not None:
                self.originals[key] = nn.Parameter(original.data.to(dtype), requires_grad=original.requires_grad)

    def meet(self, network: nn.Module) -> nn.Module:
        """The network, unwrapped; if it is another than was merged into, that was put in since, nothing is merged in it."""
        network = unwrapped(network)
        if self.network is None or self.network() is not network:
            self.originals.clear()
            self.merged = []
            self.network = weakref.ref(network)
        return network

    def _original(self, layer: Layer, place: str, part: str) -> Tensor | None:
        """A layer's own weight or bias, whatever is merged into it now, where the layer is."""
        current = layer._parameters.get(part)
        original = self.originals.get((place, part), current)
        return None if original is None else original.detach().to(layer.weight.device, layer.weight.dtype)


def kept(parameter: nn.Parameter | None) -> nn.Parameter | None:
    """A parameter to be put back later: itself, or if it is on an accelerator a copy off it."""
    if parameter is None or parameter.device.type == "cpu":
        return parameter
    return nn.Parameter(parameter.detach().to("cpu"), requires_grad=parameter.requires_grad)


def overflow(adapters: Sequence[tuple[Adapter, float]], where: str, dtype: torch.dtype) -> AdapterError:
    """The error for a merged weight that is no number."""
    return AdapterError(
        f"{' and '.join(adapter.name for adapter, _ in adapters)} can't be merged: {where} would not be finite in "
        f"{str(dtype).removeprefix('torch.')}; give smaller weights"
    )


@torch.no_grad()
def merged(weight: Tensor, bias: Tensor | None, changes: Sequence[tuple[Change, float]]) -> Mapping[str, Tensor]:
    """A layer's weight and bias with these changes: those of the two that change."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    own, own_bias = weight.to(wide), None if bias is None else bias.to(wide)
    total: Tensor | None = None
    shift: Tensor | None = None
    for change, share in changes:
        here = change.to(weight.device, wide)
        if (delta := here.weight_delta(own)) is not None:
            total = delta * share if total is None else total + delta * share
        if (delta := here.bias_delta(own_bias)) is not None:
            shift = delta * share if shift is None else shift + delta * share
    result: dict[str, Tensor] = {}
    if total is not None:
        result["weight"] = (own + total).to(weight.dtype)
    if shift is not None:
        result["bias"] = (shift if own_bias is None else own_bias + shift).to(weight.dtype)
    return result
