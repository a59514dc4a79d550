"""A small dataset of made-up art: two things in two styles, and one of neither."""

from pathlib import Path

import numpy as np
import pytest

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
