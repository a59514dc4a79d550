"""Single files that we write, opened by diffusers' own `from_single_file` with the configs of the folder they were made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_families import FAMILIES

from sfumato.checkpoints import open_folder
from sfumato.checkpoints.single_file import open_single_file
from sfumato.checkpoints.single_saving import save_single_file

Folders = Callable[[str], Path]

# diffusers opens no single file of the others: their pipelines lack from_single_file, or it asks for what such files don't hold.
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


@pytest.mark.parametrize("name", OPENED)
def test_diffusers_opens_what_we_write(name: str, family_folders: Folders, tmp_path: Path) -> None:
    folder = family_folders(name)
    ours = open_folder(folder)
    networks = {name: network for name, network in ours.networks.items() if name != "safety_checker"}
    path = tmp_path / "model.safetensors"
    save_single_file(path, **networks, scheduler_config=ours.scheduler_config, options=ours.options)
    kind = getattr(diffusers, FAMILIES[name].pipeline)
    options: dict[str, Any] = {"safety_checker": None} if "safety_checker" in kind.__init__.__annotations__ else {}
    theirs = kind.from_single_file(
        path, config=str(folder), local_files_only=True, torch_dtype=torch.float32, **options
    )
    original = kind.from_pretrained(folder)
    for part in networks:
        found, expected = getattr(theirs, part).state_dict(), getattr(original, part).state_dict()
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(found[key], tensor), (part, key)

    again = open_single_file(path)
    for part, network in networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(getattr(again, part).state_dict()[key], tensor), (part, key)
