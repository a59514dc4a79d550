"""LoRA files at a pipeline, under the names and habits of diffusers."""

import logging
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sfumato.errors import OptionError, UnsupportedError

if TYPE_CHECKING:
    from sfumato.adapters import ActiveAdapters, Report, Weighted
    from sfumato.adapters.inversions import Inversions
    from sfumato.adapters.loaded import LoadedAdapters
    from sfumato.pipeline.source import Source
    from sfumato.recipe import Recipe

logger = logging.getLogger("sfumato")

SCALE = "scale"
"""The one thing that `cross_attention_kwargs` may hold: by what all adapters' weights are multiplied for a call."""


class Adapting:
    """`load_lora_weights` and what goes with it. Mixed into the pipeline, which owns the parts."""

    source: "Source"
    _adapters: "LoadedAdapters"
    _inversions: "Inversions"

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, Tensor],
        adapter_name: str | None = None,
        **options: Any,
    ) -> "Report":
        """Load a LoRA or its kin, in any dialect and algorithm: a file, a folder, a hub id, or tensors by name.

        `weight_name` says which file of a folder or repository, `adapter_name` what to call it here (`default_0` …). From now on it is
        used, alone until `set_adapters` chooses others. Returns what became of its keys; those without effect are also in the log.
        Raises AdapterError for one that is damaged, of another family, or that matches nothing, and as `adapter_file`.
        """
        from sfumato.adapters import adapter_of, open_adapter
        from sfumato.pipeline.adapter_files import LORA_NAMES, adapter_file

        if options.pop("hotswap", False):
            raise UnsupportedError("adapters need no hotswap: they run beside the weights; leave it out")
        name = self._adapters.free_name(adapter_name)
        given = pretrained_model_name_or_path_or_dict
        if isinstance(given, Mapping):
            adapter = adapter_of(given, self._adaptable(), name)
        else:
            adapter = open_adapter(adapter_file(given, LORA_NAMES, options), self._adaptable(), name)
        for note in adapter.report.notes:
            logger.warning("%s: %s", adapter.file, note)
        self._adapters.add(adapter)
        return adapter.report

    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: Any = None) -> None:
        """Use these adapters together, with a weight for all or one for each: a number, or {"unet": 0.8, "text_encoder": 0.3}."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        each = isinstance(adapter_weights, Sequence) and not isinstance(adapter_weights, str)
        self._adapters.choose(names, list(adapter_weights) if each else [adapter_weights] * len(names))

    def get_active_adapters(self) -> list[str]:
        """The names of the adapters that are used."""
        return self._adapters.active_names

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The names of all adapters, by the network they change."""
        from sfumato.adapters.loaded import NETWORKS

        loaded = self._adapters.by_name.values()
        by_network = {network: [one.name for one in loaded if network in one.changes] for network in NETWORKS}
        return {network: names for network, names in by_network.items() if names}

    def enable_lora(self) -> None:
        """Use the chosen adapters again."""
        self._adapters.enabled = True

    def disable_lora(self) -> None:
        """Use no adapters until `enable_lora`; what is merged stays merged."""
        self._adapters.enabled = False

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Forget adapters. What is merged of them stays merged until `unfuse_lora`."""
        self._adapters.remove([adapter_names] if isinstance(adapter_names, str) else list(adapter_names))

    def unload_lora_weights(self) -> None:
        """Forget all adapters. What is merged stays merged until `unfuse_lora`."""
        self._adapters.clear()

    def fuse_lora(
        self,
        components: Sequence[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """Merge the adapters that are used, or those named, into the weights, their weights times `lora_scale`: they cost no time then.

        `components` are the networks that are changed; unset, all.
        Weights that would be NaN or infinite are always refused, as AdapterError, and nothing is merged: `safe_fusing` is granted.
        """
        del safe_fusing
        refuse(options, "fuse_")
        networks = self._components(components)
        with self.source.recorded(**networks):
            self._adapters.merge(networks, adapter_names, scale_of({SCALE: lora_scale}))

    def unfuse_lora(self, components: Sequence[str] | None = None, **options: Any) -> None:
        """Give the original weights back, bit by bit; the adapters go on beside them."""
        refuse(options, "unfuse_")
        networks = self._components(components)
        with self.source.recorded(**networks):
            self._adapters.set_merged(networks, ())

    @property
    def fused_loras(self) -> set[str]:
        """The names of the adapters that are merged."""
        return {one.adapter.name for one in self._merged()}

    @property
    def num_fused_loras(self) -> int:
        """How many adapters are merged."""
        return len(self.fused_loras)

    # -- for the pipeline's own calls ----------------------------------------------------------------------------------

    def _adaptable(self) -> dict[str, torch.nn.Module]:
        """The networks that adapters can change."""
        from sfumato.adapters.loaded import NETWORKS

        parts = {name: self.__dict__.get(name) for name in NETWORKS}
        return {name: part for name, part in parts.items() if part is not None}

    def _components(self, components: Sequence[str] | None) -> dict[str, torch.nn.Module]:
        from sfumato.adapters.loaded import NETWORKS

        components = NETWORKS if components is None else components
        if unknown := [name for name in components if name not in NETWORKS]:
            raise OptionError(f"components names {unknown[0]!r}; adapters change {', '.join(self._adaptable())}")
        return {name: network for name, network in self._adaptable().items() if name in components}

    @contextmanager
    def _adapters_of(self, recipe: "Recipe") -> "Generator[ActiveAdapters]":
        """The adapters that ran beside a recipe's model; those that were merged into it are, inside the block, and no others.

        Raises RecipeError for one that is not loaded.
        """
        from sfumato.pipeline.adapter_recipe import found_for

        loaded = [*self._adapters.by_name.values(), *(one.adapter for one in self._merged())]
        beside, merged = found_for(recipe, loaded, self._inversions.embeddings)
        networks, before = self._adaptable(), self._merged()
        with self.source.recorded(**networks):
            self._adapters.set_merged(networks, merged)
        try:
            yield beside
        finally:
            with self.source.recorded(**networks):
                self._adapters.set_merged(networks, before)

    def _merged(self) -> "tuple[Weighted, ...]":
        """What is merged into the networks that the pipeline has now."""
        self._adapters.meet(self._adaptable())
        return self._adapters.merged

    def _is_adapted(self) -> bool:
        """Whether the model, without what runs beside it, is another than was opened: adapters are merged, or words were added."""
        return bool(self._merged() or self._inversions.embeddings)

    def _active_adapters(
        self,
        attention: Mapping[str, Any] | None,
        adapters: Mapping[str, Any] | None,
        called: Mapping[str, Mapping[str, float]] | None = None,
    ) -> "ActiveAdapters":
        """The adapters of a call: those that are used, or for this call alone `adapters` by name with their weights.

        What its prompts have `called` comes to these, with the weights that they gave it.
        """
        from sfumato.adapters import NO_ADAPTERS

        self._merged()  # another network may have been put in
        scale = scale_of(attention)
        if called and (adapters is None or isinstance(adapters, Mapping)):  # pyright: ignore[reportUnnecessaryIsInstance]
            adapters = {**(self._adapters.used if adapters is None else adapters), **called}
        if adapters is None:
            return self._adapters.active(scale)
        if not isinstance(adapters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f'adapters must be a table such as {{"name": 0.8}}, not {adapters!r}')
        if not adapters:
            return NO_ADAPTERS
        return self._adapters.active(scale, self._adapters.weighted(list(adapters), list(adapters.values())))


def scale_of(attention: Mapping[str, Any] | None) -> float:
    """The scale in `cross_attention_kwargs`; 1 without. Raises OptionError for what is no number, UnsupportedError for other options."""
    if attention is None:
        return 1.0
    if not isinstance(attention, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f'cross_attention_kwargs must be a table such as {{"scale": 0.8}}, not {attention!r}')
    if others := [name for name in attention if name != SCALE]:
        raise UnsupportedError(f"cross_attention_kwargs knows scale alone, not {others[0]!r}; leave it out")
    value = attention.get(SCALE, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise OptionError(f"the scale of the adapters is {value!r}; expected a number")
    return float(value)


def refuse(options: Mapping[str, Any], prefix: str) -> None:
    """Raise UnsupportedError for an option that is not one of diffusers' old ones at their default."""
    for name, value in options.items():
        if not (name.startswith(prefix) and value is True):
            raise UnsupportedError(f"the option {name}={value!r} is not known here; use components=[…]")
