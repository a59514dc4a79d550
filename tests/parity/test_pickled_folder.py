"""Folders whose weights are pickles, as diffusers and transformers saved them before safetensors."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from sfumato.checkpoints import open_folder


@pytest.fixture(params=["new", "old", "sharded", "fp16"])
def pickled(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny folder with every .safetensors replaced: the networks of diffusers by itself, the text encoder by torch.save."""
    folder = tmp_path / request.param
    shutil.copytree(tiny_folder, folder)
    options = {"safe_serialization": False, "variant": "fp16" if request.param == "fp16" else None}
    if request.param == "sharded":
        options["max_shard_size"] = "100KB"
    for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        network = kind.from_pretrained(folder / name)
        shutil.rmtree(folder / name)
        network.save_pretrained(folder / name, **options)
    tensors = load_file(folder / "text_encoder" / "model.safetensors")
    (folder / "text_encoder" / "model.safetensors").unlink()
    infix = ".fp16" if request.param == "fp16" else ""
    torch.save(
        tensors,
        folder / "text_encoder" / f"pytorch_model{infix}.bin",
        _use_new_zipfile_serialization=request.param != "old",
    )
    return folder


def test_pickled_folders_open_as_the_same_model(tiny_folder: Path, pickled: Path) -> None:
    assert not list(pickled.rglob("*.safetensors"))
    if pickled.name == "sharded":
        assert len(list((pickled / "unet").glob("*.bin"))) > 1
    expected = open_folder(tiny_folder)
    found = open_folder(pickled, variant="fp16" if pickled.name == "fp16" else None)
    for name in ("unet", "vae", "text_encoder"):
        theirs = getattr(expected, name).state_dict()
        ours = getattr(found, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    assert found.sha256 != expected.sha256  # of other files
