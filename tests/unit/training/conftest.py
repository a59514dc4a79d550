"""A small dataset of made-up pictures: two things in two styles, and one of neither."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.training.data.pack import Record, write_dataset

SIZE = 16


def write_toy_dataset(path: Path) -> Path:
    ramp = np.linspace(0, 255, SIZE, dtype=np.uint8)
    horizontal = np.broadcast_to(ramp[None, :, None], (SIZE, SIZE, 3)).copy()
    vertical = np.broadcast_to(ramp[:, None, None], (SIZE, SIZE, 3)).copy()
    records, pixels = [], []
    for thing, picture in (("apple", horizontal), ("rocket", vertical)):
        for style in ("flat", "3d"):
            shade = picture if style == "flat" else 255 - picture
            pixels.append(shade)
            records.append(
                Record(
                    thing=thing,
                    style=style,
                    code="0",
                    source="made-up@1",
                    licence="CC0-1.0",
                    split="train",
                    captions=(thing, f"{thing}, {style} style"),
                )
            )
    for split in ("train", "held_out"):
        pixels.append(np.full((SIZE, SIZE, 3), 200, dtype=np.uint8))
        records.append(Record(thing="wall", style="flat", code="1", source="made-up@1", licence="CC0-1.0", split=split))
    write_dataset(path, pixels, records)
    return path


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "art-16.safetensors")
