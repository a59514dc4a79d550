"""What an engine is asked: a network's answer for some tensors, in a form that every engine can take."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sfumato.adapters.beside import add_sides, is_adapted
from sfumato.models.convolution import Conv2d, wrapped_axes
from sfumato.models.linear import Linear
from sfumato.models.unet import KeysValues
from sfumato.models.weight_state import times_written

Form: TypeAlias = tuple[bool, ...]
"""Which of the inputs that a function can do without are there."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """One evaluation of a network.

    `function(network, form, *inputs)` is the answer, of tensors alone, for engines that trace it; `eagerly()` is the same by PyTorch, and is
    all there is where `changes` names something that changes the network for this evaluation.
    """

    network: nn.Module
    function: Callable[..., Tensor]
    form: Form
    inputs: tuple[Tensor, ...]
    eagerly: Callable[[], Tensor]
    changes: tuple[str, ...] = ()

    @property
    def key(self) -> Hashable:
        """What evaluations of one network have in common that are made ready together."""
        kinds = tuple((tuple(each.shape), each.dtype, each.device) for each in self.inputs)
        return self.function.__name__, self.form, kinds, torch.get_num_threads()


def unet_task(
    network: nn.Module, x: Tensor, timesteps: Tensor, keys_values: KeysValues, changes: Mapping[str, Any]
) -> Task:
    """A U-Net's answer, the keys and values of its text among the inputs; `changes` are what else its forward is given."""
    told = (keys_values.before, keys_values.after)
    layers = [tensor for layer in keys_values.layers for tensor in layer]
    return Task(
        network=network,
        function=unet_answer,
        form=tuple(each is not None for each in told),
        inputs=(x, timesteps, *layers, *(each for each in told if each is not None)),
        eagerly=lambda: network(x, timesteps, keys_values, **changes),
        changes=tuple(CHANGES.get(name, name) for name in changes),
    )


CHANGES = {"perturbed": "perturbed attention", "freeu": "FreeU"}
"""What a U-Net's forward can be given beside its inputs, as people call it."""


def unet_answer(network: nn.Module, form: Form, x: Tensor, timesteps: Tensor, *rest: Tensor) -> Tensor:
    """A U-Net's answer for tensors in the order of `unet_task`."""
    has_before, has_after = form
    count = len(rest) - has_before - has_after
    before = rest[count] if has_before else None
    after = rest[-1] if has_after else None
    layers = tuple((rest[place], rest[place + 1]) for place in range(0, count, 2))
    return network(x, timesteps, KeysValues(layers, before=before, after=after))


def decoder_task(vae: Any, latents: Tensor) -> Task:
    """What an autoencoder decodes latents (unscaled) to, whole."""
    return Task(
        network=vae,
        function=decoder_answer,
        form=(),
        inputs=(latents,),
        eagerly=lambda: vae.decode_whole(latents),
    )


def decoder_answer(vae: Any, form: Form, latents: Tensor) -> Tensor:
    """What an autoencoder decodes latents to."""
    del form
    return vae.decode_whole(latents)


PLAIN: tuple[type[nn.Module], ...] = (Linear, Conv2d, nn.Linear, nn.Conv2d)
"""Layers whose weights are used as they lie there."""


def why_eager(task: Task) -> str | None:
    """What about an evaluation only eager PyTorch can do, in words; None for nothing."""
    network = task.network
    if task.changes:
        return " and ".join(task.changes)
    if wrapped_axes():
        return "a picture that wraps"
    if is_adapted(network):
        return "adapters beside the layers"
    if torch.is_autocast_enabled(task.inputs[0].device.type):
        return "autocast"
    if hasattr(network, "_orig_mod"):
        return "a network that torch.compile has wrapped already"
    if getattr(network, "quantisation", None) is not None:
        return "its layers compute in int8"
    if getattr(network, "computes_in", None) is not None:
        return "weights that are held in another precision"
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and type(module) not in PLAIN:
            return f"layers of another kind ({type(module).__name__})"
        before: Any = getattr(module, "_forward_pre_hooks")  # noqa: B009 - PyTorch has no public name for them
        after: Any = getattr(module, "_forward_hooks")  # noqa: B009
        if before or any(hook is not add_sides for hook in after.values()):
            return "hooks on the network's layers"
    return None


def state_of(network: nn.Module) -> Hashable:
    """A value that changes when the network's weights or switches do: what was made from them is then of no use."""
    weights = tuple(
        (weight.data_ptr(), times_written(weight))
        for tensors in (network.parameters(), network.buffers())
        for weight in tensors
    )
    return weights, getattr(network, "attention_slicing", None)
