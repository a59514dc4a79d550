"""Folders of every family, between diffusers and us: what either saves, the other opens, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_families import FAMILIES, tiny_text, tiny_unet

from sfumato.checkpoints import LoadedModel, open_folder, save_folder
from sfumato.checkpoints.components import UNET
from sfumato.checkpoints.diffusers_layout import text_keys, vae_keys
from sfumato.checkpoints.folder_saving import Carried
from sfumato.checkpoints.keys import KeyMap

Folders = Callable[[str], Path]


def save(loaded: LoadedModel, path: Path, **options: Any) -> None:
    save_folder(
        path,
        unet=loaded.unet,
        vae=loaded.vae,
        text_encoder=loaded.text_encoder,
        text_encoder_2=loaded.text_encoder_2,
        tokenizer_files=loaded.tokenizers.get("tokenizer"),
        tokenizer_2_files=loaded.tokenizers.get("tokenizer_2"),
        scheduler_config=loaded.scheduler_config,
        low_res_scheduler=loaded.low_res_scheduler,
        options=loaded.options,
        carried={name: Carried(loaded.path / name, entry) for name, entry in loaded.unread.items()},
        **options,
    )


def assert_same_tensors(ours: torch.nn.Module, theirs: torch.nn.Module, keys: KeyMap) -> None:
    expected = {keys.to_ours(key): tensor for key, tensor in theirs.state_dict().items()}
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


def assert_same_model(ours: LoadedModel, theirs: Any) -> None:
    assert_same_tensors(ours.unet, theirs.unet, UNET.keys(ours.unet.config))
    assert_same_tensors(ours.vae, theirs.vae, vae_keys(ours.vae.config))
    for name in ("text_encoder", "text_encoder_2"):
        network, reference = getattr(ours, name), getattr(theirs, name, None)
        assert (network is None) == (reference is None)
        if network is not None:
            assert_same_tensors(network, reference, text_keys(network.config))
    for name in ours.tokenizers:
        prompt = "a red apple, 3d!"
        ids = getattr(theirs, name)(prompt, padding="max_length", max_length=77).input_ids
        assert list(ours.tokenizer(name).encode(prompt).ids) == ids


@pytest.mark.parametrize("name", FAMILIES)
def test_families_go_both_ways(name: str, family_folders: Folders, tmp_path: Path) -> None:
    family, folder = FAMILIES[name], family_folders(name)
    kind = getattr(diffusers, family.pipeline)
    ours = open_folder(folder)
    assert ours.family is family
    assert ours.unet.config == tiny_unet(family)
    assert {part: network.config for part, network in ours.networks.items() if "text" in part} == {
        part: tiny_text(config) for part, config in family.text_encoders.items()
    }
    assert_same_model(ours, kind.from_pretrained(folder))

    save(ours, tmp_path / "saved")
    again = kind.from_pretrained(tmp_path / "saved")
    assert_same_model(ours, again)
    assert dict(again.scheduler.config) == dict(kind.from_pretrained(folder).scheduler.config)
    for option in family.options:
        assert again.config[option] == ours.options.get(option, family.options[option])
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    theirs = json.loads((folder / "model_index.json").read_text())
    assert {key: value for key, value in theirs.items() if not key.startswith("_")}.items() <= (
        index | {"image_encoder": [None, None], "is_cosxl_edit": False}
    ).items()
    assert open_folder(tmp_path / "saved").family is family


@pytest.mark.parametrize("name", ["sdxl", "x4-upscaler"])
def test_families_in_shards_and_half_precision(name: str, family_folders: Folders, tmp_path: Path) -> None:
    kind = getattr(diffusers, FAMILIES[name].pipeline)
    theirs = kind.from_pretrained(family_folders(name), torch_dtype=torch.float16)
    theirs.save_pretrained(tmp_path, variant="fp16", max_shard_size="300KB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    ours = open_folder(tmp_path, variant="fp16")
    assert ours.unet.dtype == torch.float16
    assert_same_model(ours, theirs)
    save(ours, tmp_path / "again", variant="fp16")
    assert_same_model(ours, kind.from_pretrained(tmp_path / "again", variant="fp16", torch_dtype=torch.float16))
