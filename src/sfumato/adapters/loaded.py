"""A pipeline's adapters by name: which are loaded, which are used and how much, and which are merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sfumato.adapters.adapter import Adapter
from sfumato.adapters.beside import NO_ADAPTERS, ActiveAdapters, Weighted
from sfumato.adapters.merging import Merger
from sfumato.errors import OptionError, UnknownNameError, UsageError

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
"""The networks that adapters are made for, by their names in a pipeline."""

Weights = Mapping[str, float]
"""How much of an adapter each network gets."""


@dataclass(slots=True)
class LoadedAdapters:
    """Adapters as diffusers keeps them: one that is loaded is used alone until others are chosen."""

    by_name: dict[str, Adapter] = field(default_factory=dict[str, Adapter])
    chosen: dict[str, Weights] = field(default_factory=dict[str, Weights])
    enabled: bool = True
    mergers: dict[str, Merger] = field(default_factory=dict[str, Merger])

    def free_name(self, name: str | None) -> str:
        """The name for a new adapter: `default_0` and so on unless one is given. Raises UsageError if that is taken."""
        if name is None:
            return next(free for i in range(len(self.by_name) + 1) if (free := f"default_{i}") not in self.by_name)
        if name in self.by_name:
            raise UsageError(
                f"an adapter {name!r} is loaded already; give another name, or delete_adapters({name!r}) first"
            )
        return name

    def add(self, adapter: Adapter) -> None:
        """Take an adapter, and use it alone."""
        self.by_name[adapter.name] = adapter
        self.chosen = {adapter.name: dict.fromkeys(NETWORKS, 1.0)}

    def choose(self, names: Sequence[str], weights: Sequence[Any]) -> None:
        """Use these adapters, each with its weight: a number, numbers by network, or None for 1.

        Raises UnknownNameError, OptionError for what is no weight, UsageError for one that is merged, whose weight is settled.
        """
        chosen = self.weighted(names, weights)
        merged = {one.adapter for one in self.merged}
        if settled := [name for name in names if self.by_name[name] in merged]:
            raise UsageError(
                f"{settled[0]!r} is merged into the weights; call unfuse_lora() before choosing it another weight"
            )
        self.chosen = chosen
        self.enabled = True

    def weighted(self, names: Sequence[str], weights: Sequence[Any]) -> dict[str, Weights]:
        """Names with their weights, checked. Raises UnknownNameError or OptionError."""
        for name in names:
            if name not in self.by_name:
                raise UnknownNameError("adapter", name, self.by_name or ("(none is loaded)",))
        if len(names) != len(weights) or len(set(names)) != len(names):
            raise OptionError(
                f"{len(weights)} weights for {len(names)} adapters; give each adapter once, and one weight for each"
            )
        return {name: weights_of(name, weight) for name, weight in zip(names, weights, strict=True)}

    def active(self, scale: float = 1.0, chosen: Mapping[str, Weights] | None = None) -> ActiveAdapters:
        """What runs beside the networks: the chosen adapters, or those given, all weights times `scale`, where they are not merged."""
        if chosen is None:
            chosen = self.used
        merged = {one.adapter: one.weights for one in self.merged}
        used: list[Weighted] = []
        for name, weights in chosen.items():
            adapter = self.by_name[name]
            beside = {
                network: weight * scale
                for network, weight in weights.items()
                if weight and network in adapter.changes and network not in merged.get(adapter, {})
            }
            if any(beside.values()):
                used.append(Weighted(adapter, beside))
        return ActiveAdapters(tuple(used)) if used else NO_ADAPTERS

    @property
    def used(self) -> Mapping[str, Weights]:
        """The chosen adapters with their weights; none while they are disabled."""
        return self.chosen if self.enabled else {}

    @property
    def active_names(self) -> list[str]:
        """The names of the chosen adapters."""
        return list(self.chosen)

    def meet(self, networks: Mapping[str, nn.Module]) -> None:
        """Note which networks the pipeline has now: one that was put in place of another has nothing merged."""
        for network, module in networks.items():
            self.mergers.setdefault(network, Merger()).meet(module)

    @property
    def merged(self) -> tuple[Weighted, ...]:
        """The adapters that are merged, with their weights."""
        weights: dict[Adapter, dict[str, float]] = {}
        for network, merger in self.mergers.items():
            for adapter, weight in merger.merged:
                weights.setdefault(adapter, {})[network] = weight
        return tuple(Weighted(adapter, of_networks) for adapter, of_networks in weights.items())

    def merge(self, networks: Mapping[str, nn.Module], names: Sequence[str] | None, scale: float) -> None:
        """Merge the chosen adapters, or those named, into the networks, each with its weight times `scale`, beside what is merged there.

        Raises UnknownNameError, or AdapterError for weights that overflow; then nothing is merged that was not before.
        """
        wanted = {
            name: self.chosen.get(name, weights_of(name, None)) for name in (self.chosen if names is None else names)
        }
        self.weighted(list(wanted), [None] * len(wanted))
        self.meet(networks)
        before = self.merged
        target = {one.adapter: dict(one.weights) for one in before}
        for name, weights in wanted.items():
            there = target.setdefault(self.by_name[name], {})
            for network in networks:
                there.setdefault(network, weights.get(network, 0.0) * scale)
        try:
            self.set_merged(networks, [Weighted(adapter, weights) for adapter, weights in target.items()])
        except BaseException:
            self.set_merged(networks, before)
            raise

    def set_merged(self, networks: Mapping[str, nn.Module], merged: Sequence[Weighted]) -> None:
        """Make these, with their weights, all that is merged into the networks; none gives back the original bits."""
        self.meet(networks)
        for network, module in networks.items():
            wanted = [(one.adapter, one.weights.get(network, 0.0)) for one in merged]
            wanted = [(adapter, weight) for adapter, weight in wanted if weight and network in adapter.changes]
            if self.mergers[network].merged != wanted:
                self.mergers[network].merge(module, network, wanted)

    def cast(self, dtype: torch.dtype) -> None:
        """Note that the networks were cast."""
        for merger in self.mergers.values():
            merger.cast(dtype)

    def remove(self, names: Sequence[str]) -> None:
        """Forget adapters; what is merged of them stays merged. Raises UnknownNameError."""
        self.weighted(list(dict.fromkeys(names)), [None] * len(set(names)))
        for name in names:
            self.by_name.pop(name, None)
            self.chosen.pop(name, None)

    def clear(self) -> None:
        """Forget all adapters; what is merged stays merged."""
        self.by_name.clear()
        self.chosen.clear()


def weights_of(name: str, weight: Any) -> Weights:
    """One adapter's weights by network. Raises OptionError for what is no number, or another network."""
    if isinstance(weight, Mapping):
        if unknown := sorted(map(str, weight.keys() - set(NETWORKS))):
            raise OptionError(f"the weights of {name!r} are for {unknown[0]!r}; there are {', '.join(NETWORKS)}")
        # As in diffusers, a network that is left out has the whole of it.
        return {network: number(name, weight.get(network, 1.0)) for network in NETWORKS}
    return dict.fromkeys(NETWORKS, number(name, 1.0 if weight is None else weight))


def number(name: str, weight: Any) -> float:
    """A weight. Raises OptionError for anything else, NaN and infinity too."""
    try:
        value = float(weight) if not isinstance(weight, bool | str | Mapping) else float("nan")
    except (TypeError, ValueError):
        value = float("nan")
    if value - value != 0:
        raise OptionError(
            f"the weight of {name!r} is {weight!r}; expected a number (weights for single blocks are not available)"
        )
    return value
