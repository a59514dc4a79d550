"""Folders of every family in every kind of weights file: shards of a variant, and pickles, in shards too, as diffusers used to write them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, our_networks, save_tokenizers
from torch import Tensor

from sfumato.checkpoints import open_folder, save_folder


def rewrite(weights: Path, *, pickled: bool, variant: str | None) -> None:
    """A component's weights in two shards with an index, under the names that diffusers and transformers give them."""
    tensors = load_file(weights)
    weights.unlink()
    stem, suffix = weights.stem, "safetensors"
    if pickled:
        stem, suffix = ("pytorch_model" if stem == "model" else stem), "bin"
    infix = f".{variant}" if variant else ""
    names, places = sorted(tensors), dict[str, str]()
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = weights.with_name(f"{stem}{infix}-0000{number}-of-00002.{suffix}")
        shard: dict[str, Tensor] = {key: tensors[key].half() if variant else tensors[key] for key in part}
        if pickled:
            torch.save(shard, file, _use_new_zipfile_serialization=number == 1)
        else:
            save_file(shard, file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file.name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    weights.with_name(f"{stem}.{suffix}.index{infix}.json").write_text(json.dumps(index))


def folder_of(name: str, path: Path) -> dict[str, Any]:
    """A tiny model of the family, saved; its networks."""
    family, networks = FAMILIES[name], our_networks(FAMILIES[name])
    save_tokenizers(family, path / "tokenizers")
    save_folder(
        path / "model", **networks, scheduler_config=family.scheduler, low_res_scheduler=family.low_res_scheduler,
        **{f"{part}_files": path / "tokenizers" / part for part in family.padding}, family=family,
    )  # fmt: skip
    return networks


@pytest.mark.parametrize(("variant", "pickled"), [(None, True), ("fp16", False)])
@pytest.mark.parametrize("name", FAMILIES)
def test_shards_pickles_and_variants(name: str, variant: str | None, pickled: bool, tmp_path: Path) -> None:
    networks = folder_of(name, tmp_path)
    for weights in list((tmp_path / "model").rglob("*.safetensors")):
        rewrite(weights, pickled=pickled, variant=variant)
    assert len(list((tmp_path / "model" / "unet").glob(f"*-of-00002.{'bin' if pickled else 'safetensors'}"))) == 2
    found = open_folder(tmp_path / "model", variant=variant)
    assert found.family is FAMILIES[name]
    assert found.networks.keys() == networks.keys()
    for part, network in networks.items():
        weights = found.networks[part].state_dict()
        for key, tensor in network.state_dict().items():
            assert torch.equal(weights[key], tensor.half() if variant else tensor), (
                part,
                key,
            )
