"""A small dataset of made-up art: two things in two styles, and one of neither."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.training import base, vae
from sfumato.training.data.pack import Record, write_dataset

SIZE = 16


def disc(colour: tuple[int, int, int], size: int = SIZE, radius: float = 0.45) -> np.ndarray:
    """A disc of a colour, shaded from top to bottom, on transparent ground: `size size 4`."""
    y, x = np.mgrid[:size, :size] + 0.5
    inside = np.hypot(x - size / 2, y - size / 2) < radius * size
    shading = np.linspace(1.1, 0.8, size)[:, None, None]
    rgb = np.clip(np.asarray(colour) * shading, 0, 255)
    return np.concatenate([np.broadcast_to(rgb, (size, size, 3)), 255 * inside[..., None]], axis=2).astype(np.uint8)


def write_toy_dataset(path: Path, size: int = SIZE) -> Path:
    records, pixels = [], []
    for thing, colour in (("apple", (220, 40, 40)), ("rocket", (60, 110, 220))):
        for style, radius in (("flat", 0.45), ("3d", 0.35)):
            pixels.append(disc(colour, size, radius))
            records.append(
                Record(
                    thing=thing,
                    style=style,
                    code="0",
                    source="made-up@1",
                    licence="CC0-1.0",
                    split="train",
                    names=(thing, f"little {thing}"),
                    keywords=("toy",),
                )
            )
    for split in ("train", "held_out"):
        pixels.append(disc((60, 170, 70), size))
        records.append(Record(thing="wall", style="flat", code="1", source="made-up@1", licence="CC0-1.0", split=split))
    write_dataset(path, pixels, records)
    return path


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "art-16.safetensors")


VAE = """
data = "{data}"
images = 4
batch = 2
[model]
channels = [8, 8, 8]
blocks_per_level = 1
norm_groups = 4
scaling_factor = 1.0
sample_size = 16
"""
BASE = """
data = "{data}"
vae = "{vae}"
images = 4
batch = 2
prompts = ["apple"]
prompt_steps = 2
[text]
width = 8
layers = 1
heads = 2
max_length = 8
base_merges = 0
[unet]
channels = [8, 8]
blocks_per_level = 1
attention = [false, true]
heads = [2, 2]
depth = [1, 1]
context_dim = 8
norm_groups = 4
sample_size = 4
"""


def say_nothing(line: str) -> None: ...


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with the configs and runs of an autoencoder, its decoder trained further, and a base model. Read it, don't write into it."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_toy_dataset(folder / "art-16.safetensors")
    (folder / "vae.toml").write_text(VAE.format(data=data))
    further = f'start_from = "{folder / "vae"}"\ndecoder_only = true\n'
    (folder / "decoder.toml").write_text(further + VAE.format(data=data))
    (folder / "base.toml").write_text(BASE.format(data=data, vae=folder / "vae"))
    vae.train(folder / "vae.toml", folder / "vae", progress=say_nothing)
    vae.train(folder / "decoder.toml", folder / "decoder", progress=say_nothing)
    base.train(folder / "base.toml", folder / "base", progress=say_nothing)
    return folder
