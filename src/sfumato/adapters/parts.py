"""The tensors that files keep for one layer, and the change that they make together."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.adapters.algorithms import IA3, Change, DoRA, Full, LoHa, LoKr, LoRA
from sfumato.errors import AdapterError

Parts = Mapping[str, Tensor]
"""The tensors of one layer, by the names that LyCORIS gives them; see `dialects.PARTS`."""

Scaling = Callable[[int | None], float]
"""By what a change is multiplied, from its rank; None for a change that has none (LoKr of two whole matrices)."""

# How many dimensions each part may have; a linear layer's may be written as a 1 × 1 convolution's.
RANKS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("lora_up", "lora_down"), (2, 4)),
    **dict.fromkeys(("lora_mid", "hada_t1", "hada_t2", "lokr_t2"), (4,)),
    **dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), (2, 4)),
    **dict.fromkeys(("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a"), (2,)),
    **dict.fromkeys(("lokr_w2", "lokr_w2_b"), (2, 4)),
    **dict.fromkeys(("diff", "w_norm"), (1, 2, 4)),
    "dora_scale": (1, 2, 4),
    "peft_magnitude": (1, 2, 4),
}
# Parts that say something by a whole number, or by being there.
COUNTS = frozenset({"alpha", "on_input", "feedforward"})


def change_of(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """The change that a layer's parts make; `shape` is that of its weight, which tells some algorithms their direction.

    `where` names the layer as the file does. Raises AdapterError for parts that are missing, too many, or disagree with each other.
    """
    for name, ranks in RANKS.items():
        if name in parts and parts[name].ndim not in ranks:
            raise damaged(where, f"{name} is {list(parts[name].shape)}, of {parts[name].ndim} dimensions")
    for name, tensor in parts.items():
        if name not in COUNTS and not tensor.is_floating_point():
            raise damaged(where, f"{name} is of {str(tensor.dtype).removeprefix('torch.')}; expected fractions")
    known = next((kind for kind in ALGORITHMS if kind in parts), None)
    if known is None:
        raise damaged(where, f"{listed(parts)} make no change that Sfumato knows")
    needed, optional, make = ALGORITHMS[known]
    if missing := [name for name in needed if name not in parts]:
        raise damaged(where, f"it has {listed(parts)} but no {' and no '.join(missing)}")
    direction = ("alpha", "dora_scale", "peft_magnitude") if make in (lora, loha, lokr) else ("alpha",)
    if extra := parts.keys() - {*needed, *optional, *direction}:
        raise damaged(where, f"{listed(extra)} don't go with {known}")
    change = make(where, parts, shape, scaling)
    magnitude = magnitudes(parts, shape)
    return change if magnitude is None else DoRA(change, magnitude)


def lora(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """LoRA and LoCon."""
    del shape
    up, down, mid = parts["lora_up"], parts["lora_down"], parts.get("lora_mid")
    same_rank(where, {"lora_up": up.shape[1], "lora_down": down.shape[0]}, parts)
    if mid is not None and tuple(mid.shape[:2]) != (up.shape[1], down.shape[0]):
        raise damaged(where, f"lora_mid is {list(mid.shape)}, between ranks of {up.shape[1]} and {down.shape[0]}")
    if up.shape[2:].numel() > 1 or (mid is not None and down.shape[2:].numel() > 1):
        raise damaged(
            where, f"lora_up is {list(up.shape)} and lora_down {list(down.shape)}; expected 1 × 1 kernels there"
        )
    return LoRA(up=up, down=down, mid=mid, up_bias=parts.get("lora_up_bias"), scale=scaling(down.shape[0]))


def loha(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """LoHa."""
    del shape
    w1_a, w1_b, w2_a, w2_b = (parts[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    t1, t2 = parts.get("hada_t1"), parts.get("hada_t2")
    if (t1 is None) != (t2 is None):
        raise damaged(where, "it has one of hada_t1 and hada_t2; expected both or none")
    for a, b, core, names in ((w1_a, w1_b, t1, "hada_w1"), (w2_a, w2_b, t2, "hada_w2")):
        inner = a.shape[1] if core is None else a.shape[0]
        ranks = {f"{names}_a": inner, f"{names}_b": b.shape[0]}
        if core is not None:
            ranks |= {names.replace("w", "t"): core.shape[0]}
        same_rank(where, ranks, parts)
        if core is not None and core.shape[1] != b.shape[0]:
            raise damaged(where, f"{names.replace('w', 't')} is {list(core.shape)} and {names}_b {list(b.shape)}")
    change = LoHa(w1_a, w1_b, w2_a, w2_b, scaling(w1_b.shape[0]), t1, t2)
    other = replace(change, w1_a=w2_a, w1_b=w2_b, t1=t2)
    if change.shape != other.shape:
        raise damaged(where, f"its factors make {list(change.shape)} and {list(other.shape)}; expected one shape")
    return change


def lokr(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """LoKr."""
    del shape
    given = {name: parts.get(f"lokr_{name}") for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
    rank: int | None = None
    for whole in ("w1", "w2"):
        a, b, core = given[f"{whole}_a"], given[f"{whole}_b"], given["t2"] if whole == "w2" else None
        if (given[whole] is None) == (a is None) or (a is None) != (b is None):
            raise damaged(
                where, f"it has {listed(parts)}; expected lokr_{whole}, or else lokr_{whole}_a and lokr_{whole}_b"
            )
        if a is None or b is None:
            if core is not None:
                raise damaged(where, "lokr_t2 goes with lokr_w2_a and lokr_w2_b, not with lokr_w2")
            continue
        ranks = {f"lokr_{whole}_a": a.shape[1] if core is None else a.shape[0], f"lokr_{whole}_b": b.shape[0]}
        if core is not None and tuple(core.shape[:2]) != tuple(ranks.values()):
            raise damaged(
                where, f"lokr_t2 is {list(core.shape)}, and the ranks of its factors are {list(ranks.values())}"
            )
        same_rank(where, ranks, parts)
        rank = b.shape[0] if rank is None else rank
    return LoKr(scale=scaling(rank), **given)


def ia3(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """(IA)³ of LyCORIS, whose vector starts at zero."""
    del shape, scaling
    if parts["on_input"].numel() != 1:
        raise damaged(where, f"on_input is {list(parts['on_input'].shape)}; expected one number")
    return IA3(parts["ia3_weight"], on_input=bool(parts["on_input"].item()))


def ia3_of_peft(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """(IA)³ of peft, whose vector starts at one: (out, 1) or (1, in) of a linear layer, of a convolution (1, n, 1, 1) either way."""
    del scaling
    vector = parts["ia3_l"]
    if vector.ndim == 2:
        on_input = vector.shape[0] == 1 and (len(shape) < 2 or vector.shape[1] == shape[1])
    else:
        outputs, inputs = shape[0], shape[1] if len(shape) > 1 else 0
        if vector.numel() == outputs == inputs and "feedforward" not in parts:
            raise AdapterError(
                f"{where}: ia3_l is {list(vector.shape)} and the layer has as many inputs as outputs; put the adapter_config.json, "
                "whose feedforward_modules say which are scaled, beside the file"
            )
        on_input = "feedforward" in parts if outputs == inputs else vector.numel() == inputs
    # Half precision may not hold 1 + l and l both; of 8 bits there is no subtraction.
    return IA3(vector.float() - 1, on_input=on_input, on_bias=not on_input)


def full(where: str, parts: Parts, shape: tuple[int, ...], scaling: Scaling) -> Change:
    """A whole difference."""
    del where, shape, scaling
    weight, bias = parts.get("diff", parts.get("w_norm")), parts.get("diff_b", parts.get("b_norm"))
    return Full(weight=weight, bias=bias)


Maker = Callable[[str, Parts, tuple[int, ...], Scaling], Change]

# What each kind of part begins: the parts it needs, those it may have, and how they make a change.
ALGORITHMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], Maker]] = {
    "lora_up": (("lora_up", "lora_down"), ("lora_mid", "lora_up_bias"), lora),
    "lora_down": (("lora_up", "lora_down"), ("lora_mid", "lora_up_bias"), lora),
    "hada_w1_a": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("hada_t1", "hada_t2"), loha),
    "lokr_w1": (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), lokr),
    "lokr_w1_a": (("lokr_w1_a", "lokr_w1_b"), ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), lokr),
    "on_input": (("on_input", "ia3_weight"), (), ia3),
    "ia3_l": (("ia3_l",), ("feedforward",), ia3_of_peft),
    "diff": (("diff",), ("diff_b",), full),
    "w_norm": (("w_norm",), ("b_norm",), full),
    "diff_b": (("diff_b",), (), full),
    "b_norm": (("b_norm",), (), full),
}


def magnitudes(parts: Parts, shape: tuple[int, ...]) -> Tensor | None:
    """DoRA's magnitudes, as `out 1` or `1 in` with as many further dimensions as the weight; None without."""
    if "peft_magnitude" in parts:  # peft keeps one for each output, whatever the shape it writes
        return parts["peft_magnitude"].reshape(-1, *[1] * (len(shape) - 1))
    given = parts.get("dora_scale")
    if given is None:
        return None
    return (
        given.reshape(-1, *[1] * (len(shape) - 1))
        if given.ndim == 1
        else given.reshape(*given.shape[:2], *[1] * (len(shape) - 2))
    )


def same_rank(where: str, ranks: Mapping[str, int], parts: Parts) -> None:
    """Raise AdapterError unless all of a product's inner sizes agree."""
    if len(set(ranks.values())) > 1 or 0 in ranks.values():
        shapes = ", ".join(f"{name} {list(parts[name].shape)}" for name in ranks)
        raise damaged(
            where, f"the ranks of {shapes} are {', '.join(map(str, ranks.values()))}; expected one rank for all"
        )


def damaged(where: str, what: str) -> AdapterError:
    """The error for parts that make no whole."""
    return AdapterError(f"{where}: {what}; the file is damaged, or of a kind that Sfumato does not read")


def listed(names: object) -> str:
    """Names in order, for a message."""
    return ", ".join(sorted(map(str, names)))  # pyright: ignore[reportArgumentType]


def finite(tensor: Tensor) -> bool:
    """Whether every number is one; booleans and integers are."""
    if not tensor.is_floating_point():
        return True
    # PyTorch can't tell of all types of 8 bits; half precision holds each of their values.
    return bool(torch.isfinite(tensor.half() if tensor.element_size() == 1 else tensor).all())
