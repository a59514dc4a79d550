"""The table in docs/adapters.md: behind every "yes" is a file of that dialect and algorithm that opens, and behind no dash."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.adapters.cloneofsimo import orders
from sfumato.adapters.opening import open_adapter
from sfumato.adapters.parts import change_of

DOCUMENT = Path(__file__).parents[3] / "docs/adapters.md"
RANK = 2

Parts = dict[str, Tensor]
"""The tensors of one layer by LyCORIS' names."""


def lora(layer: nn.Module, *, core: bool = False) -> Parts:
    out, into, *kernel = layer.weight.shape
    ones = [1] * len(kernel)
    parts = {
        "lora_up": torch.randn(out, RANK, *ones),
        "lora_down": torch.randn(RANK, into, *(ones if core else kernel)),
    }
    return parts | ({"lora_mid": torch.randn(RANK, RANK, *kernel)} if core else {})


def loha(layer: nn.Module, *, core: bool = False) -> Parts:
    out, into, *kernel = layer.weight.shape
    if core:
        return {
            f"hada_{name}": torch.randn(RANK, *sizes)
            for name, sizes in (
                ("t1", (RANK, *kernel)), ("t2", (RANK, *kernel)), ("w1_a", (out,)), ("w1_b", (into,)), ("w2_a", (out,)), ("w2_b", (into,)),
            )
        }  # fmt: skip
    flat = layer.weight[0].numel()
    return {
        "hada_w1_a": torch.randn(out, RANK), "hada_w1_b": torch.randn(RANK, flat),
        "hada_w2_a": torch.randn(out, RANK), "hada_w2_b": torch.randn(RANK, flat),
    }  # fmt: skip


def lokr(layer: nn.Module, *, core: bool = False) -> Parts:
    out, into, *kernel = layer.weight.shape
    first = {"lokr_w1": torch.randn(2, 2)}
    if core:
        return first | {
            "lokr_t2": torch.randn(1, 1, *kernel),
            "lokr_w2_a": torch.randn(1, out // 2),
            "lokr_w2_b": torch.randn(1, into // 2),
        }
    if kernel:
        return first | {"lokr_w2": torch.randn(out // 2, into // 2, *kernel)}
    return {"lokr_w1_a": torch.randn(2, 1), "lokr_w1_b": torch.randn(1, 2)} | {
        "lokr_w2_a": torch.randn(out // 2, RANK),
        "lokr_w2_b": torch.randn(RANK, into // 2),
    }


def dora(layer: nn.Module) -> Parts:
    return lora(layer) | {"dora_scale": torch.rand(layer.weight.shape[0], *[1] * (layer.weight.ndim - 1)) + 0.5}


def ia3(layer: nn.Module) -> Parts:
    return {"ia3_weight": torch.randn(layer.weight.shape[0]), "on_input": torch.tensor(0)}


def full(layer: nn.Module) -> Parts:
    return {"diff": torch.randn_like(layer.weight), "diff_b": torch.randn(layer.weight.shape[0])}


def linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


def even(layer: nn.Module) -> bool:
    return layer.weight.shape[0] % 2 == 0 and layer.weight.shape[1] % 2 == 0


def spatial(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)


# Each row: which layers it is tried on, and what is made for them.
ROWS: dict[str, list[tuple[Callable[[nn.Module], bool], Callable[..., Parts]]]] = {
    "LoRA": [(linear, lora)],
    "LoCon": [(lambda layer: not linear(layer), lora), (spatial, lambda layer: lora(layer, core=True))],
    "LoHa": [(lambda _: True, loha), (spatial, lambda layer: loha(layer, core=True))],
    "LoKr": [(even, lokr), (lambda layer: spatial(layer) and even(layer), lambda layer: lokr(layer, core=True))],
    "DoRA": [(lambda _: True, dora)],
    "(IA)³": [(lambda _: True, ia3)],
    "full differences": [(lambda _: True, full)],
}


def kohya(name: str, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    for part, tensor in parts.items():
        end = {"ia3_weight": "weight"}.get(part, f"{part}.weight" if part.startswith("lora_") else part)
        yield f"lora_unet_{name.replace('.', '_')}.{end}", tensor


def dotted(prefix: str) -> Callable[[str, Parts], Iterator[tuple[str, Tensor]]]:
    def keys(name: str, parts: Parts) -> Iterator[tuple[str, Tensor]]:
        for part, tensor in parts.items():
            end = {"lora_down": "lora_A.weight", "lora_up": "lora_B.weight", "lora_mid": "lora_mid.weight"}.get(
                part, part
            )
            if part == "dora_scale":
                end, tensor = (
                    "lora_magnitude_vector.weight",
                    tensor.transpose(0, 1) if tensor.ndim == 4 else tensor.flatten(),
                )
            if part == "ia3_weight":
                end, tensor = "ia3_l", (tensor + 1)[:, None]
            if part != "on_input":
                yield f"{prefix}{name}.{end}", tensor

    return keys


def processors(name: str, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    attention, _, projection = name.removesuffix(".0").rpartition(".")
    for part, tensor in parts.items():
        yield f"unet.{attention}.processor.{projection}_{part.replace('lora_', 'lora.')}.weight", tensor


COLUMNS: dict[str, Any] = {
    "kohya, LyCORIS": kohya,
    "diffusers": dotted("unet."),
    "diffusers before 0.22": processors,
    "peft": dotted("base_model.model."),
    "cloneofsimo": None,
}


def table() -> dict[tuple[str, str], bool]:
    lines = re.findall(
        r"^\|(.+)\|$", DOCUMENT.read_text(encoding="utf-8").split("## What is read")[1].split("\n\n")[1], re.MULTILINE
    )
    columns, _, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    return {
        (re.split("[:,]", row[0])[0], column): cell.startswith("yes")
        for row in rows
        for column, cell in zip(columns[1:], row[1:], strict=True)
    }


CELLS = table()


def test_the_table_has_these_rows_and_columns() -> None:
    assert {row for row, _ in CELLS} == ROWS.keys()
    assert {column for _, column in CELLS} == COLUMNS.keys()


@pytest.mark.parametrize(("row", "column"), [cell for cell, said in CELLS.items() if said], ids=" | ".join)
def test_every_yes_opens(tiny: Any, row: str, column: str) -> None:
    layers = tiny.layers("unet")
    for suits, make in ROWS[row]:
        chosen = {name: layer for name, layer in layers.items() if suits(layer)}
        if column == "diffusers before 0.22":
            chosen = {name: layer for name, layer in chosen.items() if ".attn" in name}
        if row == "(IA)³" and column == "peft":
            chosen = {name: layer for name, layer in chosen.items() if linear(layer)}
        if (
            column in ("cloneofsimo", "peft", "diffusers")
            and row == "LoCon"
            and make is not lora
            and column == "cloneofsimo"
        ):
            continue  # without a core
        if column == "cloneofsimo":
            # The last orders are with resnets; the fourth is that of old with them.
            candidates = list(orders("unet", list(layers)))
            chosen = {name: layers[name] for name in (candidates[1] if row == "LoRA" else candidates[4])}
        parts = {name: make(layer) for name, layer in chosen.items()}
        if column == "cloneofsimo":
            tensors = {
                f"unet:{i}:{part.removeprefix('lora_')}": tensor
                for i, of_layer in enumerate(parts.values())
                for part, tensor in of_layer.items()
            }
        else:
            tensors = {
                key: tensor for name, of_layer in parts.items() for key, tensor in COLUMNS[column](name, of_layer)
            }
        adapter = open_adapter(tiny.save(tensors), tiny.networks)
        assert adapter.report.matched == {"unet": len(chosen)}
        assert adapter.report.unmatched == ()
        by_layer = {id(tiny.unet.get_submodule(place)): change for place, change in adapter.changes["unet"].items()}
        for name, layer in chosen.items():
            expected = change_of(name, parts[name], tuple(layer.weight.shape), lambda _: 1.0)
            change = by_layer[id(layer)]
            assert change.algorithm == expected.algorithm
            torch.testing.assert_close(change.weight_delta(layer.weight), expected.weight_delta(layer.weight))
