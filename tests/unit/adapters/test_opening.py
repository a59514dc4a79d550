"""Every key of an adapter's file is put to use, or named; what does not fit is an error that says so."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.adapters.opening import adapter_of, open_adapter
from sfumato.errors import AdapterError, CorruptFileError, MissingFileError

RANK = 2


def delta(down: Tensor, up: Tensor, scale: float) -> Tensor:
    """A LoRA's, as anybody would write it."""
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:]) * scale


def pair(layer: nn.Module) -> tuple[Tensor, Tensor]:
    out, into, *kernel = layer.weight.shape
    return torch.randn(RANK, into, *kernel), torch.randn(out, RANK, *[1] * len(kernel))


Named = Callable[[str, str], tuple[str, str]]

# network and layer → keys of down and up; the layers that this dialect's files have; what their scale is
OLD_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out", "to_out.0": "to_out"}


def kohya(network: str, layer: str) -> tuple[str, str]:
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[network]
    name = prefix + layer.replace(".", "_")
    return f"{name}.lora_down.weight", f"{name}.lora_up.weight"


def kohya_numbered(network: str, layer: str) -> tuple[str, str]:
    down, up = kohya(network, layer)
    return down.replace("lora_te_", "lora_te1_"), up.replace("lora_te_", "lora_te1_")


def diffusers(network: str, layer: str) -> tuple[str, str]:
    return f"{network}.{layer}.lora_A.weight", f"{network}.{layer}.lora_B.weight"


def diffusers_of_2023(network: str, layer: str) -> tuple[str, str]:
    if network == "unet":
        return f"unet.{layer}.lora.down.weight", f"unet.{layer}.lora.up.weight"
    return f"{network}.{layer}.lora_linear_layer.down.weight", f"{network}.{layer}.lora_linear_layer.up.weight"


def old_diffusers(network: str, layer: str) -> tuple[str, str]:
    for now, then in OLD_NAMES.items():
        if layer.endswith(now):
            layer = layer.removesuffix(now) + then
    processor = ".processor" if network == "unet" else ""
    attention, _, projection = layer.rpartition(".")
    name = f"{network}.{attention}{processor}.{projection}_lora"
    return f"{name}.down.weight", f"{name}.up.weight"


def bare(network: str, layer: str) -> tuple[str, str]:
    """As `save_attn_procs` wrote a U-Net's alone."""
    down, up = old_diffusers(network, layer)
    return down.removeprefix("unet."), up.removeprefix("unet.")


def peft(network: str, layer: str) -> tuple[str, str]:
    return f"base_model.model.{layer}.lora_A.weight", f"base_model.model.{layer}.lora_B.weight"


def peft_within(network: str, layer: str) -> tuple[str, str]:
    return f"{network}.base_model.model.{layer}.lora_A.weight", f"{network}.base_model.model.{layer}.lora_B.weight"


BOTH, UNET = ("unet", "text_encoder"), ("unet",)
DIALECTS: dict[str, tuple[Named, tuple[str, ...], str]] = {
    "kohya": (kohya, BOTH, "kohya"),
    "kohya, numbered": (kohya_numbered, BOTH, "kohya"),
    "old diffusers": (old_diffusers, BOTH, "old diffusers"),
    "old diffusers, U-Net alone": (bare, UNET, "old diffusers"),
    "diffusers of 2023": (diffusers_of_2023, BOTH, "diffusers"),
    "diffusers": (diffusers, BOTH, "diffusers"),
    "peft": (peft, BOTH, "peft"),
    "peft within diffusers": (peft_within, BOTH, "peft"),
}


@pytest.mark.parametrize("alpha", [None, 6.0])
@pytest.mark.parametrize(("name", "networks", "dialect"), DIALECTS.values(), ids=DIALECTS.keys())
def test_every_dialect_s_lora_reaches_its_layers(
    tiny: Any, name: Named, networks: tuple[str, ...], dialect: str, alpha: float | None
) -> None:
    tensors: dict[str, Tensor] = {}
    expected: dict[int, Tensor] = {}
    for network in networks:
        for layer, module in tiny.layers(network).items():
            if not any(word in layer for word in ("to_q", "to_k", "to_v", "to_out", "self_attn")):
                continue
            down, up = pair(module)
            down_key, up_key = name(network, layer)
            tensors |= {down_key: down, up_key: up}
            if alpha is not None and dialect != "old diffusers":
                key = down_key.removesuffix(".weight").removesuffix("down").removesuffix("lora_").removesuffix("lora_A")
                key = key.removesuffix("lora.").removesuffix("lora_linear_layer.")
                tensors[f"{key}alpha"] = torch.tensor(alpha)
            expected[id(module)] = delta(down, up, alpha / RANK if alpha and dialect != "old diffusers" else 1.0)
    adapter = open_adapter(tiny.save(tensors), tiny.networks)
    assert adapter.report.unmatched == ()
    assert adapter.report.dialects == (dialect,)
    assert sum(adapter.report.matched.values()) == len(expected)
    for network, changes in adapter.changes.items():
        for place, change in changes.items():
            module = tiny.networks[network].get_submodule(place)
            torch.testing.assert_close(change.weight_delta(module.weight), expected[id(module)])


def test_the_original_layout_s_names_are_known_too(tiny: Any) -> None:
    tensors: dict[str, Tensor] = {}
    layers = tiny.ldm_layers()
    for layer, module in layers.items():
        down, up = pair(module)
        tensors |= {
            key.replace("lora_unet_", "lora_unet_"): t for key, t in zip(kohya("unet", layer), (down, up), strict=True)
        }
    adapter = open_adapter(tiny.save(tensors), tiny.networks)
    assert adapter.report.matched == {"unet": len(layers)}
    assert any(name.startswith("input_blocks") for name in layers)
    for layer, module in layers.items():
        (change,) = [c for p, c in adapter.changes["unet"].items() if tiny.networks["unet"].get_submodule(p) is module]
        down, up = (tensors[key] for key in kohya("unet", layer))
        torch.testing.assert_close(change.weight_delta(module.weight), delta(down, up, 1.0))


def lycoris_parts(algorithm: str) -> Callable[[nn.Module], Mapping[str, Tensor]]:
    def parts(layer: nn.Module) -> Mapping[str, Tensor]:
        out, into, *kernel = layer.weight.shape
        flat = into * int(torch.tensor(kernel).prod()) if kernel else into
        match algorithm:
            case "LoHa":
                return {
                    "hada_w1_a": torch.randn(out, RANK), "hada_w1_b": torch.randn(RANK, flat),
                    "hada_w2_a": torch.randn(out, RANK), "hada_w2_b": torch.randn(RANK, flat), "alpha": torch.tensor(1.0),
                }  # fmt: skip
            case "LoKr":
                return {"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(out // 2, into // 2, *kernel)}
            case "(IA)³":
                return {"weight": torch.randn(out), "on_input": torch.tensor(0)}
            case "full":
                return {"diff": torch.randn_like(layer.weight), "diff_b": torch.randn(out)}
            case _:
                down, up = pair(layer)
                return {
                    "lora_down.weight": down,
                    "lora_up.weight": up,
                    "dora_scale": torch.rand(out, 1, *[1] * len(kernel)),
                }

    return parts


@pytest.mark.parametrize("algorithm", ["LoHa", "LoKr", "(IA)³", "full", "DoRA"])
def test_lycoris_s_algorithms_reach_every_layer(tiny: Any, algorithm: str) -> None:
    even = {name: t for name, t in tiny.kohya(parts=lycoris_parts(algorithm)).items() if "conv_in" not in name}
    adapter = open_adapter(tiny.save({k: t for k, t in even.items() if "conv_out" not in k}), tiny.networks)
    assert adapter.report.algorithms == {algorithm: sum(adapter.report.matched.values())}
    assert adapter.report.matched["unet"] > 40
    assert adapter.report.matched["text_encoder"] == 12
    assert adapter.report.unmatched == ()


def test_a_norm_s_difference_is_taken_as_one(tiny: Any) -> None:
    tensors = {"lora_unet_conv_norm_out.w_norm": torch.randn(8), "lora_unet_conv_norm_out.b_norm": torch.randn(8)}
    adapter = adapter_of(tensors, tiny.networks, "x")
    assert adapter.changes["unet"].keys() == {"norm_out"}


# -- scale -------------------------------------------------------------------------------------------------------------


def only(tiny: Any, tensors: Mapping[str, Tensor], **kwargs: Any) -> Tensor:
    """The change of the one layer that the tensors are for."""
    path = tiny.save(tensors, kwargs.pop("name", "x.safetensors"), kwargs.pop("metadata", None))
    (changes,) = open_adapter(path, tiny.networks).changes.values()
    ((place, change),) = changes.items()
    return change.weight_delta(tiny.networks["unet"].get_submodule(place).weight)


LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def test_the_config_beside_a_peft_file_says_the_scale(tiny: Any) -> None:
    down, up = torch.randn(RANK, 8), torch.randn(8, RANK)
    tensors = dict(zip(peft("unet", LAYER), (down, up), strict=True))
    torch.testing.assert_close(only(tiny, tensors), delta(down, up, 1.0))
    for config, scale in (
        ({"lora_alpha": 3, "r": 2}, 1.5),
        ({"lora_alpha": 3, "r": 2, "use_rslora": True}, 3 / 2**0.5),
        ({"lora_alpha": 3, "r": 2, "alpha_pattern": {"attn1.to_q": 8}}, 4.0),
        ({"lora_alpha": 3, "r": 2, "alpha_pattern": {"attn2.to_q": 8}}, 1.5),
    ):
        (tiny.folder / "adapter_config.json").write_text(json.dumps(config))
        torch.testing.assert_close(only(tiny, tensors), delta(down, up, scale))


def test_the_metadata_of_diffusers_says_the_scale(tiny: Any) -> None:
    down, up = torch.randn(RANK, 8), torch.randn(8, RANK)
    tensors = dict(zip(diffusers("unet", LAYER), (down, up), strict=True))
    metadata = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 5, "unet.r": 2, "text_encoder.lora_alpha": 9})}
    torch.testing.assert_close(only(tiny, tensors, metadata=metadata), delta(down, up, 2.5))


@pytest.mark.parametrize(
    "metadata",
    [
        "{", "[]", json.dumps({"unet.lora_alpha": "five"}), json.dumps({"unet.rank_pattern": [1]}), '{"unet.lora_alpha": NaN}',
        json.dumps({"unet.lora_alpha": 10**400}), json.dumps({"unet.r": 0}), json.dumps({"unet.r": -3, "unet.use_rslora": True}),
        '{"unet.alpha_pattern": {"to_q": NaN}}', json.dumps({"unet.rank_pattern": {"to_q": 0}}),
        json.dumps({"unet.alpha_pattern": {f"x{i}": 1 for i in range(10_001)}}),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_damaged_config_is_an_error(tiny: Any, metadata: str) -> None:
    tensors = dict(zip(diffusers("unet", LAYER), (torch.randn(RANK, 8), torch.randn(8, RANK)), strict=True))
    with pytest.raises(AdapterError):
        only(tiny, tensors, metadata={"lora_adapter_metadata": metadata})


def test_a_missing_alpha_is_the_rank_and_is_said(tiny: Any) -> None:
    tensors = {key: tensor for key, tensor in tiny.kohya("unet").items() if not key.endswith(".alpha")}
    report = open_adapter(tiny.save(tensors), tiny.networks).report
    assert report.no_alpha == sum(report.matched.values())
    assert any("no alpha" in note for note in report.notes)


# -- what is said, and what is refused ---------------------------------------------------------------------------------


def test_unmatched_keys_are_named_and_the_rest_is_used(tiny: Any) -> None:
    tensors = tiny.kohya() | {"lora_unet_nowhere.lora_up.weight": torch.zeros(2, 2), "ema_decay": torch.zeros(1)}
    report = open_adapter(tiny.save(tensors), tiny.networks).report
    assert report.unmatched == ("ema_decay", "lora_unet_nowhere.lora_up.weight")
    assert "2 keys match nothing of this model" in report.notes[0]
    assert str(report).startswith("kohya, LoRA: ")
    assert "\n" not in str(report)


def test_a_layer_of_another_shape_is_named_and_left_as_it_is(tiny: Any) -> None:
    tensors = tiny.kohya("unet") | {
        "lora_unet_conv_in.lora_down.weight": torch.randn(RANK, 9, 3, 3),
        "lora_unet_conv_in.lora_up.weight": torch.randn(8, RANK, 1, 1),
    }
    adapter = open_adapter(tiny.save(tensors), tiny.networks)
    assert "conv_in" not in adapter.changes["unet"]
    assert adapter.report.misfits == ("lora_unet_conv_in is for [8, 9, 3, 3], this model has [8, 4, 3, 3]",)


@pytest.mark.parametrize(
    ("width", "family"), [(768, "Stable Diffusion 1"), (1024, "Stable Diffusion 2"), (2048, "Stable Diffusion XL")]
)
def test_an_adapter_for_another_family_says_which(tiny: Any, width: int, family: str) -> None:
    tensors = tiny.kohya()
    for key in [key for key in tensors if "attn2_to_k.lora_down" in key or "attn2_to_v.lora_down" in key]:
        tensors[key] = torch.randn(RANK, width)
    with pytest.raises(
        AdapterError, match=f"is for {family}: its U-Net reads a text {width} wide, and this model's 16"
    ):
        open_adapter(tiny.save(tensors), tiny.networks)


def test_a_second_text_encoder_is_for_sdxl(tiny: Any) -> None:
    tensors = tiny.kohya("unet") | {
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.randn(RANK, 16),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.randn(32, RANK),
    }
    with pytest.raises(AdapterError, match="Stable Diffusion XL: it changes a second text encoder"):
        open_adapter(tiny.save(tensors), tiny.networks)


def test_a_text_encoder_of_another_width_is_another_family_s(tiny: Any) -> None:
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    tensors = {f"{name}.lora_down.weight": torch.randn(RANK, 1024), f"{name}.lora_up.weight": torch.randn(1024, RANK)}
    with pytest.raises(AdapterError, match="Stable Diffusion 2: its text encoder is 1024 wide, and this model's 16"):
        open_adapter(tiny.save(tensors), tiny.networks)


def test_another_architecture_is_named(tiny: Any) -> None:
    tensors = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.randn(RANK, 16),
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.randn(48, RANK),
    }
    with pytest.raises(
        AdapterError, match=r"matches nothing of this model: it looks like one for Flux \(keys such as lora_unet_double"
    ):
        open_adapter(tiny.save(tensors), tiny.networks)


def test_a_whole_model_is_no_adapter(tiny: Any) -> None:
    with pytest.raises(
        AdapterError, match="its keys are not an adapter's; whole models are opened with from_pretrained"
    ):
        open_adapter(tiny.save(tiny.text.state_dict()), tiny.networks)


BAD: dict[str, tuple[Callable[[dict[str, Tensor], str], None], str]] = {
    "ranks that differ": (lambda t, k: t.update({f"{k}.lora_up.weight": torch.randn(8, 3)}), "expected one rank for all"),
    "no rank": (lambda t, k: t.update({f"{k}.lora_up.weight": torch.randn(8, 0), f"{k}.lora_down.weight": torch.randn(0, 8)}), "expected one rank"),
    "up without down": (lambda t, k: t.pop(f"{k}.lora_down.weight"), "but no lora_down"),
    "three dimensions": (lambda t, k: t.update({f"{k}.lora_down.weight": torch.randn(2, 8, 1)}), "of 3 dimensions"),
    "NaN": (lambda t, k: t[f"{k}.lora_up.weight"].fill_(torch.nan), "holds NaN or infinity"),
    "infinity": (lambda t, k: t[f"{k}.lora_up.weight"].fill_(-torch.inf), "holds NaN or infinity"),
    "an alpha of two numbers": (lambda t, k: t.update({f"{k}.alpha": torch.ones(2)}), "expected one number"),
    "a core that fits nothing": (lambda t, k: t.update({f"{k}.lora_mid.weight": torch.randn(3, 3, 3, 3)}), "lora_mid is"),
    "parts of two algorithms": (lambda t, k: t.update({f"{k}.hada_w1_a": torch.randn(8, 2)}), "don't go with lora_up"),
    "half a LoHa": (lambda t, k: (t.clear(), t.update({f"{k}.hada_w1_a": torch.randn(8, 2)}))[0], "but no hada_w1_b"),
    "half a LoKr": (lambda t, k: (t.clear(), t.update({f"{k}.lokr_w1": torch.randn(2, 2)}))[0], "expected lokr_w2, or else"),
    "whole numbers": (lambda t, k: t.update({f"{k}.lora_up.weight": torch.ones(8, 2, dtype=torch.int64)}), "lora_up is of int64; expected fractions"),
    "complex numbers": (lambda t, k: t.update({f"{k}.lora_up.weight": torch.ones(8, 2, dtype=torch.complex64)}), "lora_up is of complex64"),
    "a difference of no dimensions": (lambda t, k: (t.clear(), t.update({f"{k}.diff": torch.tensor(1.0)}))[0], "diff is \\[\\], of 0 dimensions"),
    "NaN in 8 bits": (lambda t, k: t.update({f"{k}.lora_up.weight": torch.full((8, 2), torch.nan).to(torch.float8_e4m3fn)}), "holds NaN or infinity"),
    "OFT": (lambda t, k: t.update({f"{k}.oft_blocks": torch.randn(2, 4, 4)}), "uses OFT or BOFT"),
    "GLoRA": (lambda t, k: t.update({f"{k}.a1.weight": torch.randn(2, 4)}), "uses GLoRA"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD.keys())
def test_damaged_adapters_are_errors_that_name_the_key(tiny: Any, spoil: Callable[..., None], said: str) -> None:
    tensors = tiny.kohya("unet")
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    spoil(tensors, name)
    with pytest.raises(AdapterError, match=said) as caught:
        open_adapter(tiny.save(tensors), tiny.networks)
    assert "attn1_to_q" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_keys_for_one_part_must_agree(tiny: Any) -> None:
    tensors = tiny.kohya("unet")
    name = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    ldm = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    tensors[f"{ldm}.lora_up.weight"] = tensors[f"lora_unet_{name}.lora_up.weight"].clone()
    assert len(open_adapter(tiny.save(tensors), tiny.networks).report.doubled) == 1
    tensors[f"{ldm}.lora_up.weight"] = tensors[f"lora_unet_{name}.lora_up.weight"] + 1
    with pytest.raises(AdapterError, match="disagree on one part of one layer"):
        open_adapter(tiny.save(tensors), tiny.networks)


def test_a_truncated_file_is_corrupt_and_a_missing_one_is_missing(tiny: Any, tmp_path: Path) -> None:
    path = tiny.save(tiny.kohya())
    whole = path.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFileError):
            open_adapter(path, tiny.networks)
    with pytest.raises(MissingFileError, match="there is no file"):
        open_adapter(tmp_path / "absent.safetensors", tiny.networks)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.float64])
def test_numbers_may_be_of_any_precision(tiny: Any, dtype: torch.dtype) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in tiny.kohya("unet").items()}
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    again = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight"
    adapter = open_adapter(tiny.save(tensors | {again: tensors[f"{name}.lora_up.weight"].clone()}), tiny.networks)
    assert adapter.report.doubled == (again,)
    place = "down.0.attention.blocks.0.self_attention.to_q"
    down, up, alpha = (tensors[f"{name}.{end}"].float() for end in ("lora_down.weight", "lora_up.weight", "alpha"))
    got = adapter.changes["unet"][place].to(torch.device("cpu"), torch.float32)
    weight = tiny.unet.get_submodule(place).weight
    torch.testing.assert_close(got.weight_delta(weight), delta(down, up, alpha.item() / RANK))


def test_two_text_encoders_have_adapters_of_their_own(tiny: Any) -> None:
    """As SDXL has: lora_te1_ and lora_te2_, text_encoder. and text_encoder_2."""
    networks = {**tiny.networks, "text_encoder_2": type(tiny)(tiny.folder, width=24).text}
    names = "text_model_encoder_layers_0_self_attn_q_proj", "text_model.encoder.layers.0.self_attn.q_proj"
    for first, second, ends in (
        (f"lora_te1_{names[0]}", f"lora_te2_{names[0]}", ("lora_down.weight", "lora_up.weight")),
        (f"text_encoder.{names[1]}", f"text_encoder_2.{names[1]}", ("lora_A.weight", "lora_B.weight")),
    ):
        tensors: dict[str, Tensor] = {}
        for name, width in ((first, 16), (second, 24)):
            tensors |= {f"{name}.{ends[0]}": torch.randn(RANK, width), f"{name}.{ends[1]}": torch.randn(width, RANK)}
        adapter = adapter_of(tensors, networks, "x")
        assert adapter.report.matched == {"text_encoder": 1, "text_encoder_2": 1}
        assert [dict(changes).keys() for changes in adapter.changes.values()] == [{"layers.0.to_q"}, {"layers.0.to_q"}]
