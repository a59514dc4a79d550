"""The safety checker is shown what transformers' image processor makes of a picture."""

from typing import Any

import numpy as np
import pytest
from transformers import CLIPImageProcessor

from sfumato.errors import ConfigError
from sfumato.pipeline.safety import Preparation

CONFIG: dict[str, Any] = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}


def picture(height: int, width: int) -> np.ndarray:
    # Smooth, as pictures are: the two libraries' filters differ by a level or two on pure noise.
    ramp = np.linspace(0, 255, height)[:, None, None] * np.linspace(0, 1, width)[None, :, None]
    return (ramp * np.array([1.0, 0.6, 0.3])).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (512, 512), (48, 88), (200, 56), (57, 113), (40, 85)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"resample": 2},
        {"do_resize": False},
        {"do_center_crop": False},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]},
    ],
    ids=str,
)
def test_pictures_are_prepared_alike(height: int, width: int, changes: dict[str, Any]) -> None:
    config, image = {**CONFIG, **changes}, picture(height, width)
    expected = np.asarray(CLIPImageProcessor(**config)(image, return_tensors="np").pixel_values[0])
    got = Preparation.from_config(config)(image)
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    span = 255 if changes.get("do_rescale") is False else 1
    np.testing.assert_allclose(got, expected, atol=0.03 * span)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": {"longest_edge": 224}},
        {"crop_size": {"height": 224}},
        {"do_resize": "yes"},
        {"do_normalize": 1},
        {"resample": 9},
        {"rescale_factor": 0},
        {"image_mean": [0.5]},
        {"image_std": "abc"},
    ],
    ids=str,
)
def test_values_that_can_not_be_are_said_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is ") as caught:
        Preparation.from_config(wrong)
    assert "\n" not in str(caught.value)
