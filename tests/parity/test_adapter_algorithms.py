"""Every algorithm changes a layer as LyCORIS and peft, which defined them, change it."""

import itertools
import warnings
from copy import deepcopy
from typing import Any

import peft
import pytest
import torch
from lycoris import modules as lycoris
from torch import nn

from sfumato.adapters.alphas import PeftConfig, scaling_of
from sfumato.adapters.merging import merged
from sfumato.adapters.names import split
from sfumato.adapters.parts import change_of

LAYERS = {
    "linear": lambda: nn.Linear(24, 36),
    "linear without bias": lambda: nn.Linear(24, 36, bias=False),
    "3 × 3": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "3 × 3, stride 2": lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1),
    "1 × 1": lambda: nn.Conv2d(8, 12, 1),
}
OF_LYCORIS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("LoConModule", {}),
    "LoRA, alpha 0": ("LoConModule", {"alpha": 0}),
    "rsLoRA": ("LoConModule", {"rs_lora": True}),
    "LoCon with a core": ("LoConModule", {"use_tucker": True}),
    "DoRA": ("LoConModule", {"weight_decompose": True}),
    "DoRA by input": ("LoConModule", {"weight_decompose": True, "wd_on_out": False}),
    "LoHa": ("LohaModule", {}),
    "LoHa with cores": ("LohaModule", {"use_tucker": True}),
    "LoHa, DoRA": ("LohaModule", {"weight_decompose": True}),
    "LoKr": ("LokrModule", {}),
    "LoKr, factor 4": ("LokrModule", {"factor": 4}),
    "LoKr of two products": ("LokrModule", {"decompose_both": True, "lora_dim": 1}),
    "LoKr with a core": ("LokrModule", {"use_tucker": True, "lora_dim": 1}),
    "LoKr, whole": ("LokrModule", {"full_matrix": True}),
    "LoKr, DoRA": ("LokrModule", {"weight_decompose": True}),
    "(IA)³": ("IA3Module", {}),
    "(IA)³ on inputs": ("IA3Module", {"train_on_input": True}),
    "full": ("FullModule", {}),
}


def randomised(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter) * 0.3
        # Magnitudes stay near the norms they start from.
        parameter.data = parameter.data + noise * 0.2 if "dora" in name or "magnitude" in name else noise


def parts_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {part: tensor.detach() for key, tensor in state.items() for _, part in [split(f"layer.{key}") or ("", key)]}


def given(layer: nn.Module) -> torch.Tensor:
    return torch.randn(2, 8, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(2, 5, 24)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize(("kind", "options"), OF_LYCORIS.values(), ids=OF_LYCORIS.keys())
def test_a_layer_changes_as_lycoris_changes_it(layer: Any, kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = layer()
    copy = deepcopy(layer)
    theirs = getattr(lycoris, kind)("layer", copy, multiplier=1.0, **{"lora_dim": 4, "alpha": 2, **options}).eval()
    randomised(theirs)
    if kind == "FullModule":
        theirs.apply_to()  # from here on it holds whole weights, and writes differences
    x = given(layer)
    with torch.no_grad():
        expected = theirs(x)
        parts = parts_of(theirs.state_dict())
        change = change_of(
            "layer", parts, tuple(layer.weight.shape), scaling_of(parts.get("alpha"), None, "layer", "layer")
        )
        assert change.fits(layer.weight.shape)
        beside = layer(x) + change.side(layer, x)
        torch.testing.assert_close(beside, expected, atol=2e-5, rtol=1e-4)
        for name, tensor in merged(layer.weight, layer.bias, [(change, 1.0)]).items():
            layer._parameters[name] = nn.Parameter(tensor)
        torch.testing.assert_close(layer(x), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["GroupNorm", "LayerNorm"])
def test_a_norm_changes_as_lycoris_changes_it(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.GroupNorm(4, 8) if kind == "GroupNorm" else nn.LayerNorm(8)
    theirs = lycoris.NormModule("layer", layer, multiplier=1.0).eval()
    randomised(theirs)
    x = torch.randn(2, 8, 6, 6) if kind == "GroupNorm" else torch.randn(2, 5, 8)
    change = change_of("layer", parts_of(theirs.state_dict()), tuple(layer.weight.shape), lambda _: 1.0)
    torch.testing.assert_close(layer(x) + change.side(layer, x), theirs(x), atol=1e-5, rtol=1e-4)


CONFIGS: dict[str, Any] = {
    "LoRA": peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"]),
    "rsLoRA": peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["0"]),
    "LoRA with a bias": peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True, target_modules=["0"]),
    "DoRA": peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=["0"]),
    "patterns": peft.LoraConfig(r=4, lora_alpha=6, rank_pattern={"0": 3}, alpha_pattern={"0": 5}, target_modules=["0"]),
    "LoHa": peft.LoHaConfig(r=4, alpha=6, target_modules=["0"]),
    "LoHa with cores": peft.LoHaConfig(r=4, alpha=6, use_effective_conv2d=True, target_modules=["0"]),
    "LoKr": peft.LoKrConfig(r=2, alpha=6, target_modules=["0"]),
    "LoKr, whole": peft.LoKrConfig(r=16, alpha=6, target_modules=["0"]),
    "LoKr with a core": peft.LoKrConfig(r=1, alpha=6, use_effective_conv2d=True, target_modules=["0"]),
    "(IA)³": peft.IA3Config(target_modules=["0"], feedforward_modules=[]),
    "(IA)³ on inputs": peft.IA3Config(target_modules=["0"], feedforward_modules=["0"]),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("name", CONFIGS)
def test_a_layer_changes_as_peft_changes_it(layer: Any, name: str) -> None:
    torch.manual_seed(0)
    layer = layer()
    if name == "LoRA with a bias" and layer.bias is None:
        pytest.skip("peft gives a layer without a bias none")
    config = CONFIGS[name]
    model = peft.get_peft_model(nn.Sequential(layer), config).eval()
    randomised_adapter(model)
    x = given(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft takes the bias of a LoRA for a damaged matrix, and says so
        state = peft.get_peft_model_state_dict(model)
    with torch.no_grad():
        expected = model(x)
        values = {k: v for k, v in config.to_dict().items() if isinstance(v, int | float | dict | bool | str)}
        feedforward = getattr(config, "feedforward_modules", None)
        own = PeftConfig.read(values | {"feedforward_modules": sorted(feedforward or [])}, "config")
        parts = {}
        for key, tensor in state.items():
            found = split(key)
            assert found is not None, key
            assert found[0] == "base_model.model.0"
            parts[found[1]] = tensor
        if own.scales_input("base_model.model.0"):
            parts["feedforward"] = torch.ones(1)
        change = change_of(
            "layer", parts, tuple(layer.weight.shape), scaling_of(None, own, "base_model.model.0", "layer")
        )
        with model.disable_adapter():
            unchanged = model(x)
        base = model.base_model.model[0].base_layer
        torch.testing.assert_close(unchanged + change.side(base, x), expected, atol=2e-5, rtol=1e-4)


def randomised_adapter(model: nn.Module) -> None:
    marks = ("lora_", "hada_", "lokr_", "ia3_")
    for name, parameter in model.named_parameters():
        if any(mark in name for mark in marks):
            noise = torch.randn_like(parameter) * 0.3
            parameter.data = parameter.data + noise * 0.2 if "magnitude" in name else noise


def test_weights_are_linear_and_sums_are_of_the_layer_s_own_weight() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    changes = []
    for kind in ("LoConModule", "LohaModule"):
        theirs = getattr(lycoris, kind)("layer", layer, lora_dim=2, weight_decompose=True)
        randomised(theirs)
        parts = parts_of(theirs.state_dict())
        changes.append(change_of("layer", parts, (6, 6), scaling_of(parts["alpha"], None, "", "")))
    own = layer.weight.detach()
    deltas = [change.weight_delta(own) for change in changes]
    for order in itertools.permutations([(0, 0.5), (1, -2.0)]):
        got = merged(own, None, [(changes[i], weight) for i, weight in order])["weight"]
        torch.testing.assert_close(got, own + 0.5 * deltas[0] - 2 * deltas[1])
