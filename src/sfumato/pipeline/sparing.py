"""How a pipeline keeps within memory: its weights as they are opened, and the measures of each run."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from sfumato.errors import UnsupportedError

if TYPE_CHECKING:
    from sfumato.engine.memory import Budget, Economy, Measures, Prediction, Sizes
    from sfumato.models import AutoencoderKL, CLIPTextEncoder
    from sfumato.models.network import Network
    from sfumato.models.unet import UNet
    from sfumato.recipe import Recipe

HELD_FROM = 2**30
"""Bytes of widened weights from which on they are not widened for good, also where no budget was given: below, the copy is cheap."""
PACKED = 0.75
"""Of the U-Net's widened weights those that may be kept packed where no budget was given."""
MAPS = ("unet", "vae")
"""Networks whose maps are laid out channels last."""

MEMORY_NOTE = "memory: "
"""How the note begins that says what a run is predicted to take."""


def settle_weights(networks: Mapping[str, torch.nn.Module | None], dtype: torch.dtype, budget: "Budget | None") -> None:
    """Let networks that are stored in other types compute in `dtype`: large ones, or for a small budget, layer by layer.

    What is stored in a wider type than that is rounded to it.
    """
    from sfumato.engine.memory import PROCESS
    from sfumato.models.held import hold
    from sfumato.models.network import Network
    from sfumato.models.packing import pack
    from sfumato.models.unet import UNet
    from sfumato.pipeline.parts import unwrapped

    each = {name: unwrapped(network) for name, network in networks.items()}
    there = {name: network for name, network in each.items() if isinstance(network, Network)}
    widened = sum(size_in(network, dtype) for network in there.values() if is_narrower(network, dtype))
    # Half of a budget is left to what is computed; a larger one costs no time.
    held = widened >= HELD_FROM if budget is None else budget.bytes is None or PROCESS + widened > budget.bytes // 2
    for name, network in there.items():
        if held and is_narrower(network, dtype):
            hold(network, dtype, channels_last=name in MAPS)
            if budget is None and isinstance(network, UNet):
                pack(network, int(PACKED * size_in(network, dtype)))
        else:
            network.to(dtype)


def as_stored(network: torch.nn.Module) -> None:
    """Let a held network be what is stored: it computes in that from then on."""
    from sfumato.models.held import is_held, let_go
    from sfumato.models.network import Network
    from sfumato.models.packing import drop_packed
    from sfumato.pipeline.parts import unwrapped

    network = unwrapped(network)
    if isinstance(network, Network) and is_held(network):
        for module in network.modules():
            let_go(module)
        network.computes_in = None
        drop_packed(network)


def is_narrower(network: "Network", dtype: torch.dtype) -> bool:
    """Whether all weights of a network are stored in types of fewer bytes, or in this one."""
    sizes = {parameter.dtype.itemsize for parameter in network.parameters()}
    return max(sizes) <= dtype.itemsize and min(sizes) < dtype.itemsize


def size_in(network: torch.nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a network's weights in a type."""
    return sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize


class Sparing:
    """What a pipeline says of memory, and the measures of a run. Mixed into the pipeline, which owns the parts."""

    unet: "UNet"
    vae: "AutoencoderKL"
    memory: "Budget | None" = None
    """The most memory that the process is to have of its own; None for no bound."""
    _measures: "Measures | None" = None
    """Those to take whatever the budget, as a recipe says."""

    def _networks(self) -> dict[str, torch.nn.Module]:
        raise NotImplementedError

    def _encoders(self) -> "dict[str, CLIPTextEncoder]":
        raise NotImplementedError

    def predict_memory(
        self, height: int, width: int, *, rows: int = 2, image: bool = False
    ) -> "tuple[Measures, Prediction]":
        """The measures that one picture of this size, in pixels, would be drawn with, and what each stage would take.

        `rows` are those of its guidance, `image` says whether it begins from a picture. Raises OptionError where no measures suffice.
        """
        from sfumato.engine.memory import predict

        sizes, base = self._sizes(height, width, rows, image), self._base()
        measures = self._measures or self._chosen(sizes, base)
        return measures, predict(sizes, measures, base)

    def _economy(self, height: int, width: int, rows: int, *, image: bool) -> "Economy":
        """The measures of a run, with what has to be said of them. Raises OptionError where no measures suffice."""
        from sfumato.engine.memory import Economy, Measures, ladder_of
        from sfumato.models.packing import forget_stored

        stored = self._is_stored()
        leaving = partial(forget_stored, self.unet) if stored else None
        if self._measures is not None:
            return Economy(self._measures, ladder_of(stored=stored), leaving)
        if self.memory is None:
            return Economy(Measures(stored=stored), ladder_of(stored=stored), leaving)
        if self.unet.device.type != "cpu":
            raise UnsupportedError(
                f"memory is kept under {self.memory} on a CPU alone, and the pipeline is on {self.unet.device}; leave memory out"
            )
        measures, prediction = self.predict_memory(height, width, rows=rows, image=image)
        economy = Economy(measures, ladder_of(stored=stored), leaving)
        economy.notes.append(memory_note(self.memory, measures, prediction))
        return economy

    def _chosen(self, sizes: "Sizes", base: int) -> "Measures":
        from sfumato.engine.memory import choose, ladder_of

        ladder = ladder_of(stored=self._is_stored())
        return ladder[0] if self.memory is None else choose(sizes, self.memory, base, ladder)

    def _measures_of(self, recipe: "Recipe") -> "Measures":
        """What a recipe's picture is made again with: of its own measures those that may change its last bits."""
        from sfumato.engine.memory import Measures

        return Measures(
            stored=self._is_stored(),
            at_once=self.memory is not None,
            rows_apart=recipe.rows_apart,
            tiles=recipe.vae_tile is not None,
        )

    def _is_stored(self) -> bool:
        from sfumato.models.held import is_held

        return is_held(self.unet)

    def _base(self) -> int:
        """What the process has now, its weights included."""
        from sfumato.engine.memory import PROCESS, anonymous

        now = anonymous()
        if now is not None:
            return now
        widened = 0 if self._is_stored() else sum(size_in(one, one.dtype) for one in self._every())
        return PROCESS + widened

    def _every(self) -> "list[Network]":
        from sfumato.models.network import Network
        from sfumato.pipeline.parts import unwrapped

        return [one for each in self._networks().values() if isinstance(one := unwrapped(each), Network)]

    def _sizes(self, height: int, width: int, rows: int, image: bool) -> "Sizes":
        from sfumato.models.network import Network
        from sfumato.models.packing import allowance_of
        from sfumato.pipeline.parts import unwrapped

        scale, networks = self.vae.scale, {name: unwrapped(network) for name, network in self._networks().items()}
        configs = {name: network.config for name, network in networks.items() if isinstance(network, Network)}
        size = height // scale, width // scale
        sizes = sizes_of(configs, *size, rows=rows, image=image, number_size=self.unet.dtype.itemsize)
        return replace(sizes, packs=allowance_of(networks["unet"]), roomy=self.memory is None)


def sizes_of(
    configs: Mapping[str, Any],
    height: int,
    width: int,
    *,
    rows: int = 2,
    image: bool = False,
    widened: int = 0,
    number_size: int = 4,
) -> "Sizes":
    """What a run is made of, from the configs of its networks by name, and the size of its latents."""
    from sfumato.engine.memory import Sizes
    from sfumato.models import CLIPTextConfig
    from sfumato.pipeline.decoding import small_tile

    return Sizes(
        unet=configs["unet"],
        vae=configs["vae"],
        text_encoders={name: config for name, config in configs.items() if isinstance(config, CLIPTextConfig)},
        height=height,
        width=width,
        rows=rows,
        widened=widened,
        encodes=image,
        checker=configs.get("safety_checker"),
        number_size=number_size,
        tile=small_tile(configs["vae"]),
    )


def memory_note(budget: "Budget", measures: "Measures", prediction: "Prediction") -> str:
    """What is done to keep within a budget, and what that is predicted to take."""
    from sfumato.engine.memory import in_words

    return f"{MEMORY_NOTE}{in_words(prediction.peak)} predicted, most of it in the {prediction.largest}, for {budget}; {measures}"
