"""Merging models: a weighted sum of two, or what one has learned beyond another added to a third. One tensor at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sfumato.checkpoints.convert import Layout, save_model
from sfumato.checkpoints.model import LoadedModel
from sfumato.errors import KeyMismatchError, OptionError

Method = Literal["weighted-sum", "add-difference"]
METHODS: tuple[Method, ...] = ("weighted-sum", "add-difference")
FIRST = "unet.conv_in.weight"
"""The one tensor in which a model that reads more than latents, such as one for inpainting, differs in shape from its base."""


def merge_models(
    a: LoadedModel,
    b: LoadedModel,
    c: LoadedModel | None,
    path: Path | str,
    *,
    weight: float = 0.5,
    method: Method = "weighted-sum",
    layout: Layout,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Save `a` with its networks merged: (1 - weight) · a + weight · b, or a + weight · (b - c), computed in float32.

    Everything else is a's: configs, tokenizer, schedule. `a` may read more channels than `b` and `c`: the latents' are merged, the
    others stay a's, which makes an inpainting model of any other. Returns the names of parts that the layout has no place for.
    Raises OptionError for a weight that is no number, or a `c` that is missing or not needed, KeyMismatchError for models that don't
    fit, and as `save_model`.
    """
    if not -2 <= weight <= 2:  # NaN is in no range
        raise OptionError(f"the weight is {weight}; expected a number from -2 to 2, mostly between 0 and 1")
    if method not in METHODS:
        raise OptionError(f"the method is {method!r}; expected {' or '.join(METHODS)}")
    if (method == "add-difference") != (c is not None):
        raise OptionError("add-difference takes three models, A + weight · (B - C), and weighted-sum two")
    others = [tensors_of(model) for model in (b, c) if model is not None]
    ours = tensors_of(a)
    for model in (b, c):
        if model is not None:
            check_fit(a, model)

    def merged(name: str, tensor: Tensor) -> Tensor:
        given = [tensors[name].float() for tensors in others]
        whole = tensor.float()
        part = whole[:, : given[0].shape[1]] if name == FIRST else whole
        mixed = part.lerp(given[0], weight) if len(given) == 1 else part + weight * (given[0] - given[1])
        return torch.cat([mixed, whole[:, given[0].shape[1] :]], dim=1) if name == FIRST else mixed

    def change(name: str, tensor: Tensor) -> Tensor:
        return merged(name, tensor) if all(name in tensors for tensors in others) else tensor

    assert ours, "a model without networks"
    return save_model(a, path, layout=layout, dtype=dtype, variant=variant, change=change, overwrite=overwrite)


def tensors_of(model: LoadedModel) -> Mapping[str, Tensor]:
    """The tensors of a model by name, after that of their network."""
    return nn.ModuleDict(
        {name: network for name, network in model.networks.items() if name != "safety_checker"}
    ).state_dict()


def check_fit(a: LoadedModel, b: LoadedModel) -> None:
    """Raise KeyMismatchError unless the networks that both have are of the same sizes, and predict the same."""
    if a.family.make != b.family.make:
        raise KeyMismatchError(
            f"{b.path} is of {b.family.title} and {a.path} of {a.family.title}; only models of one make can be merged"
        )
    predictions = [model.scheduler_config.get("prediction_type", "epsilon") for model in (a, b)]
    if len(set(predictions)) > 1:
        raise KeyMismatchError(
            f"{a.path} predicts {predictions[0]} and {b.path} {predictions[1]}; a merge of both would predict neither"
        )
    ours, theirs = tensors_of(a), tensors_of(b)
    for name in ours.keys() & theirs.keys():
        mine, other = list(ours[name].shape), list(theirs[name].shape)
        if name == FIRST and mine[1] > other[1]:
            other[1] = mine[1]
        if mine != other:
            raise KeyMismatchError(
                f"{name} is {other} in {b.path} and {mine} in {a.path}; only models of one size can be merged"
            )
    networks = set(a.networks) & set(b.networks)
    if missing := {name for name in ours.keys() ^ theirs.keys() if name.split(".")[0] in networks}:
        raise KeyMismatchError(
            f"{a.path} and {b.path} differ in {len(missing)} tensors, such as {min(missing)}; only models of one size can be merged"
        )
