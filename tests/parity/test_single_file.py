"""Single files that we write, opened by diffusers' own `from_single_file` with the configs of the folder they were made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file
from tiny_families import FAMILIES

from sfumato.checkpoints import LoadedModel, open_folder
from sfumato.checkpoints.single_file import open_single_file
from sfumato.checkpoints.single_saving import save_single_file

Folders = Callable[[str], Path]

# As a pipeline.
OPENED = [
    "sd1",
    "sd2",
    "sd1-inpaint",
    "sd2-inpaint",
    "instruct-pix2pix",
    "x4-upscaler",
    "sdxl",
    "sdxl-inpaint",
    "sdxl-refiner",
]

# By the readers of single networks, which its pipelines use. They leave the projection of the guidance scale out of the U-Net, so that
# latent consistency models are not among them.
READ = ["sd2-v", "sd-turbo", "sd2-depth", "sdxl-turbo", "sdxl-instruct-pix2pix"]


def saved(folder: Path, path: Path) -> tuple[LoadedModel, dict[str, Any]]:
    """A folder's model, written as one file, with its networks."""
    ours = open_folder(folder)
    networks = {name: network for name, network in ours.networks.items() if name != "safety_checker"}
    save_single_file(path, **networks, scheduler_config=ours.scheduler_config, options=ours.options)
    return ours, networks


def assert_equal(found: Any, expected: Any) -> None:
    found, expected = found.state_dict(), expected.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", OPENED)
def test_diffusers_opens_what_we_write(name: str, family_folders: Folders, tmp_path: Path) -> None:
    folder, path = family_folders(name), tmp_path / "model.safetensors"
    _, networks = saved(folder, path)
    kind = getattr(diffusers, FAMILIES[name].pipeline)
    options: dict[str, Any] = {"safety_checker": None} if "safety_checker" in kind.__init__.__annotations__ else {}
    theirs = kind.from_single_file(
        path, config=str(folder), local_files_only=True, torch_dtype=torch.float32, **options
    )
    original = kind.from_pretrained(folder)
    for part in networks:
        assert_equal(getattr(theirs, part), getattr(original, part))

    again = open_single_file(path)
    for part, network in networks.items():
        assert_equal(getattr(again, part), network)


@pytest.mark.parametrize("name", READ)
def test_diffusers_reads_every_network_that_we_write(name: str, family_folders: Folders, tmp_path: Path) -> None:
    folder, path = family_folders(name), tmp_path / "model.safetensors"
    ours, networks = saved(folder, path)
    options: dict[str, Any] = {"config": str(folder), "local_files_only": True, "torch_dtype": torch.float32}
    tensors = load_file(path)
    for part in networks:
        if "text_encoder" in part:
            projected = getattr(ours, part).config.projection_dim is not None
            kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
            found = create_diffusers_clip_model_from_ldm(kind, dict(tensors), subfolder=part, **options)
        else:
            kind = diffusers.UNet2DConditionModel if part == "unet" else diffusers.AutoencoderKL
            found = kind.from_single_file(str(path), subfolder=part, **options)
        assert_equal(found, kind.from_pretrained(folder, subfolder=part))
