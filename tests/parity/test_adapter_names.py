"""Files name layers as the programs that write them do: by the modules of diffusers' and transformers' networks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders import lora_conversion_utils as conversion
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.adapters import cloneofsimo
from sfumato.adapters.layouts import layouts_of
from sfumato.adapters.names import Names, split
from sfumato.adapters.opening import adapter_of, open_adapter
from sfumato.checkpoints import open_folder
from sfumato.models import UNet, UNetConfig


@pytest.fixture(scope="module")
def theirs(tiny_folder: Path) -> dict[str, nn.Module]:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    return {"unet": pipe.unet, "text_encoder": pipe.text_encoder}


@pytest.fixture(scope="module")
def ours(tiny_folder: Path) -> dict[str, nn.Module]:
    folder = open_folder(tiny_folder, dtype=torch.float32)
    assert folder.unet is not None
    assert folder.text_encoder is not None
    return {"unet": folder.unet, "text_encoder": folder.text_encoder}


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))


@pytest.mark.parametrize(
    "prefixes",
    [("lora_unet_", "lora_te_", "_"), ("unet.", "text_encoder.", "."), ("base_model.model.", "base_model.model.", ".")],
)
def test_their_names_find_the_layers_with_their_weights(
    theirs: dict[str, nn.Module], ours: dict[str, nn.Module], prefixes: tuple[str, str, str]
) -> None:
    names = Names(layouts_of(ours))
    *starts, separator = prefixes
    for network, start in zip(("unet", "text_encoder"), starts, strict=True):
        found = set()
        for name, module in layers(theirs[network]):
            place, _ = names.find(start + name.replace(".", separator)) or pytest.fail(name)
            assert place.network == network
            assert torch.equal(ours[network].get_submodule(place.layer).weight, module.weight)
            found.add(place)
        assert len(found) == sum(1 for _ in layers(theirs[network]))


def test_names_of_the_original_layout_are_those_that_diffusers_converts() -> None:
    unet = UNet(UNetConfig(channels=(8, 8, 16), blocks_per_level=2, attention=(False, True, True), heads=(2, 2, 2), depth=(1, 2, 2), norm_groups=4, context_dim=8))  # fmt: skip
    layouts = layouts_of({"unet": unet})
    names = Names(layouts)
    config = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 8, 16), layers_per_block=2, norm_num_groups=4, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ).config  # fmt: skip
    ldm = [
        theirs
        for theirs, ours in layouts["unet"][1].table
        if isinstance(dict(unet.named_modules()).get(ours), nn.Linear | nn.Conv2d)
    ]
    for name in ldm:
        key = f"lora_unet_{name.replace('.', '_')}.lora_down.weight"
        (converted,) = conversion._maybe_map_sgm_blocks_to_diffusers({key: 0}, config)
        converted = conversion._convert_unet_lora_key(converted)
        dotted, part = split(f"unet.{converted}") or pytest.fail(converted)
        assert part == "lora_down"
        place, _ = names.find(f"lora_unet_{name.replace('.', '_')}") or pytest.fail(name)
        expected, _ = names.find(dotted) or names.find_old(dotted) or pytest.fail(f"{name}: {dotted}")
        assert place == expected
    assert len(ldm) > 90


# -- cloneofsimo -------------------------------------------------------------------------------------------------------

UNET_TARGETS = {"Attention", "GEGLU"}  # CrossAttention then
TEXT_TARGETS = {"CLIPAttention"}


def met(network: nn.Module, targets: set[str], kinds: type | tuple[type, ...] = nn.Linear) -> list[nn.Module]:
    """The layers in the order in which that program meets them."""
    ancestors = [module for module in network.modules() if type(module).__name__ in targets]
    return [layer for ancestor in ancestors for layer in ancestor.modules() if isinstance(layer, kinds)]


def pairs_for(found: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return [
        (torch.randn(layer.weight.shape[0], 2, *[1] * (layer.weight.ndim - 2)), torch.randn(2, *layer.weight.shape[1:]))
        for layer in found
    ]


def check(
    adapter: Any, ours: nn.Module, network: str, found: list[nn.Module], pairs: list[tuple[Tensor, Tensor]]
) -> None:
    changes = {}
    for place, change in adapter.changes[network].items():
        changes[ours.get_submodule(place).weight.detach().numpy().tobytes()] = change
    for layer, (up, down) in zip(found, pairs, strict=True):
        change = changes[layer.weight.detach().numpy().tobytes()]
        expected = (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
        torch.testing.assert_close(change.weight_delta(layer.weight), expected)


@pytest.mark.parametrize("with_resnets", [False, True])
def test_numbered_layers_are_found_in_the_order_they_were_met(
    theirs: dict[str, nn.Module], ours: dict[str, nn.Module], tmp_path: Path, with_resnets: bool
) -> None:
    targets = UNET_TARGETS | ({"ResnetBlock2D"} if with_resnets else set())
    found = {
        "unet": met(theirs["unet"], targets, (nn.Linear, nn.Conv2d) if with_resnets else nn.Linear),
        "text_encoder": met(theirs["text_encoder"], TEXT_TARGETS),
    }
    pairs = {network: pairs_for(layers) for network, layers in found.items()}
    tensors = {}
    metadata = {
        "unet": json.dumps(sorted(targets)),
        "text_encoder": json.dumps(sorted(TEXT_TARGETS)),
        "<s1>": "<embed>",
    }
    for network, of_network in pairs.items():
        for i, (up, down) in enumerate(of_network):
            tensors |= {f"{network}:{i}:up": up, f"{network}:{i}:down": down}
            metadata[f"{network}:{i}:rank"] = "2"
    save_file(tensors | {"<s1>": torch.randn(32)}, tmp_path / "x.safetensors", metadata)
    adapter = open_adapter(tmp_path / "x.safetensors", ours)
    assert adapter.report.dialects == ("cloneofsimo",)
    assert adapter.report.unmatched == ("<s1>",)
    for network in pairs:
        check(adapter, ours[network], network, found[network], pairs[network])


def test_before_diffusers_015_the_gate_came_between_the_attentions(
    theirs: dict[str, nn.Module], ours: dict[str, nn.Module]
) -> None:
    found = met(theirs["unet"], UNET_TARGETS)
    # attn1, attn2, gate of each block, four layers, four and one: then the gate was fifth.
    then = [found[i + at] for i in range(0, len(found), 9) for at in (0, 1, 2, 3, 8, 4, 5, 6, 7)]
    pairs = pairs_for(then)
    tensors = {
        f"unet:{i}:{part}": t for i, pair in enumerate(pairs) for part, t in zip(("up", "down"), pair, strict=True)
    }
    check(adapter_of(tensors, ours, "x"), ours["unet"], "unet", then, pairs)


@pytest.mark.parametrize("network", ["unet", "text_encoder"])
def test_a_plain_list_is_of_the_network_it_fits(
    theirs: dict[str, nn.Module], ours: dict[str, nn.Module], network: str
) -> None:
    found = met(theirs[network], UNET_TARGETS if network == "unet" else TEXT_TARGETS)
    pairs = pairs_for(found)
    flat = [tensor for pair in pairs for tensor in pair]
    adapter = adapter_of({str(i): tensor for i, tensor in enumerate(flat)}, ours, "x")
    check(adapter, ours[network], network, found, pairs)


def test_lists_with_gaps_or_of_other_layers_are_errors(ours: dict[str, nn.Module]) -> None:
    from sfumato.errors import AdapterError

    square = torch.randn(32, 2), torch.randn(2, 32)
    with pytest.raises(AdapterError, match="have gaps"):
        adapter_of({"unet:1:up": square[0], "unet:1:down": square[1]}, ours, "x")
    with pytest.raises(AdapterError, match="fits no order of this model's layers"):
        adapter_of({"unet:0:up": square[0], "unet:0:down": square[1]}, ours, "x")
    with pytest.raises(AdapterError, match="no list of pairs"):
        adapter_of({"0": square[0]}, ours, "x")
    assert cloneofsimo.is_numbered(["0", "1"])
