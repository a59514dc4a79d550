"""cloneofsimo's dialect: layers have no names but numbers, in the order in which a program of 2022 met them.

A `.safetensors` holds `unet:0:up`, `unet:0:down`, `unet:1:up`, … and `text_encoder:0:up`, …; a `.pt` holds a plain list, up and down in
turn, of one network. The order is that of the modules of diffusers' networks: down, up, middle; in each block attentions before resnets; and
inside a transformer block as that release of diffusers had it, which the shapes tell. Scaling is by one: alpha is the rank.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from sfumato.adapters.names import Layouts
from sfumato.errors import AdapterError

NUMBERED = re.compile(r"(unet|text_encoder):(\d+):(up|down)")
LISTED = re.compile(r"(\d+)")

QKV = ("to_q", "to_k", "to_v", "to_out.0")
SELF, CROSS = (tuple(f"{attention}.{name}" for name in QKV) for attention in ("attn1", "attn2"))
GATE = ("ff.net.0.proj",)
RESNET = ("conv1", "time_emb_proj", "conv2", "conv_shortcut")
# Before and since diffusers 0.15; and before the gate was adapted at all.
TRANSFORMER_ORDERS = ((*SELF, *GATE, *CROSS), (*SELF, *CROSS, *GATE), (*SELF, *CROSS))
RESNET_ORDERS = ((), RESNET)
TEXT_ORDER = ("k_proj", "v_proj", "q_proj", "out_proj")

SECTIONS = ("down_blocks", "up_blocks", "mid_block")
UNET_LAYER = re.compile(
    r"(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?(attentions|resnets)\.(\d+)\.(?:transformer_blocks\.(\d+)\.)?(.+)"
)
TEXT_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.(.+)")

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Up and down of each layer, in order."""


def is_numbered(keys: Sequence[str]) -> bool:
    """Whether a file's keys are of this dialect, as numbered names or as a plain list."""
    return any(NUMBERED.fullmatch(key) for key in keys) or (
        len(keys) > 0 and all(LISTED.fullmatch(key) for key in keys)
    )


def named(
    tensors: Mapping[str, Tensor], networks: Mapping[str, nn.Module], layouts: Layouts
) -> Iterator[tuple[str, str, str, Tensor]]:
    """Each tensor with its key, the layer's name in the diffusers layout, and the part. Other keys are left out.

    Raises AdapterError when the numbers have gaps, or no order of layers fits the shapes.
    """
    lists = numbered(tensors) if any(map(NUMBERED.fullmatch, tensors)) else listed(tensors)
    for network, (keys, pairs) in lists.items():
        for candidate in networks if network is None else [network]:
            if candidate in networks and (names := order(candidate, pairs, networks[candidate], layouts)) is not None:
                for name, (up_key, down_key), (up, down) in zip(names, keys, pairs, strict=True):
                    yield up_key, f"{candidate}.{name}", "lora_up", up
                    yield down_key, f"{candidate}.{name}", "lora_down", down
                break
        else:
            raise AdapterError(
                f"a LoRA of {len(pairs)} numbered layers fits no order of this model's layers; it is for another family, or trained "
                "on other layers than attention's"
            )


Lists = dict[str | None, tuple[list[tuple[str, str]], list[tuple[Tensor, Tensor]]]]


def numbered(tensors: Mapping[str, Tensor]) -> Lists:
    """The pairs of each network. Raises AdapterError for a number that is missing."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for key in tensors:
        if (match := NUMBERED.fullmatch(key)) is not None:
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = key
    lists: Lists = {}
    for network, layers in found.items():
        if sorted(layers) != list(range(len(layers))) or any(len(parts) != 2 for parts in layers.values()):
            raise AdapterError(f"the numbered layers of {network} have gaps; the file is damaged")
        keys = [(layers[i]["up"], layers[i]["down"]) for i in range(len(layers))]
        lists[network] = (keys, [(tensors[up], tensors[down]) for up, down in keys])
    return lists


def listed(tensors: Mapping[str, Tensor]) -> Lists:
    """The pairs of a plain list; which network's they are, the file does not say."""
    keys = sorted(tensors, key=int)
    if len(keys) % 2 or list(map(int, keys)) != list(range(len(keys))):
        raise AdapterError(f"a list of {len(keys)} tensors is no list of pairs; the file is damaged")
    pairs = list(zip(keys[::2], keys[1::2], strict=True))
    return {None: (pairs, [(tensors[up], tensors[down]) for up, down in pairs])}


def order(network: str, pairs: Pairs, module: nn.Module, layouts: Layouts) -> list[str] | None:
    """The layers' names in the diffusers layout, in the one order whose shapes all fit; None if there is none."""
    keys = layouts[network][0]
    weights = {
        theirs: module.get_parameter(f"{ours}.weight").shape for theirs, ours in keys.table if has_weight(module, ours)
    }
    for names in orders(network, list(weights)):
        if len(names) == len(pairs) and all(
            up.shape[:1] == weights[name][:1] and down.shape[1:2] == weights[name][1:2]
            for name, (up, down) in zip(names, pairs, strict=True)
        ):
            return names
    return None


def has_weight(module: nn.Module, name: str) -> bool:
    """Whether the module has a layer of that name with a weight."""
    try:
        return isinstance(module.get_submodule(name).weight, nn.Parameter)
    except AttributeError:
        return False


def orders(network: str, names: list[str]) -> Iterator[list[str]]:
    """Every order of layers that a file may have been written in."""
    if network != "unet":
        matches = [match for name in names if (match := TEXT_LAYER.fullmatch(name)) and match[2] in TEXT_ORDER]
        yield [m[0] for m in sorted(matches, key=lambda m: (int(m[1]), TEXT_ORDER.index(m[2])))]
        return
    for resnet in RESNET_ORDERS:
        for transformer in TRANSFORMER_ORDERS:
            leaves = {"attentions": transformer, "resnets": resnet}
            matches = [m for name in names if (m := UNET_LAYER.fullmatch(name)) and m[6] in leaves[m[3]]]
            yield [
                m[0]
                for m in sorted(
                    matches,
                    key=lambda m: (
                        SECTIONS.index(m[1]), int(m[2] or 0), m[3], int(m[4]), int(m[5] or 0), leaves[m[3]].index(m[6]),
                    ),
                )
            ]  # fmt: skip
