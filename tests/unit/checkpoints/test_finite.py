import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.checkpoints.filling import load_weights
from sfumato.checkpoints.finite import count_nonfinite, nonfinite
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.tensor_file import open_tensors

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2, torch.complex64)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_nan_and_infinity_is_counted(dtype: torch.dtype) -> None:
    values = torch.zeros(40)
    assert nonfinite(values.to(dtype)) == (0, 0)
    values[[3, 30]] = float("nan")
    values[7] = -float("inf")
    assert nonfinite(values.to(dtype)) == (2, 1)
    assert nonfinite(values.to(dtype).view(5, 8).t()) == (2, 1)


@pytest.mark.parametrize("tensor", [torch.zeros(0), torch.arange(3), torch.tensor([True])], ids=str)
def test_what_can_hold_none_is_not_searched(tensor: torch.Tensor) -> None:
    assert nonfinite(tensor) == (0, 0)


def test_a_file_is_counted_by_tensor(tmp_path: Path) -> None:
    damaged = torch.zeros(3 << 20)
    damaged[::1000] = float("inf")
    save_file({"good": torch.ones(3), "bad": damaged}, tmp_path / "model.safetensors")
    with open_tensors(tmp_path / "model.safetensors") as file:
        assert count_nonfinite(file) == {"bad": (0, 3146)}


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_damaged_model_is_told_to_the_log(
    tmp_path: Path, dtype: torch.dtype | None, caplog: pytest.LogCaptureFixture
) -> None:
    weights = {"first.weight": torch.zeros(2, 3), "first.bias": torch.zeros(2)}
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 2))
    file = tmp_path / "model.safetensors"
    save_file(weights, file)
    with caplog.at_level(logging.WARNING, logger="sfumato"):
        load_weights(network, [file], KeyMap((("first", "0"),)), dtype)
        assert not caplog.records
        # 1e5 is a number, which float16 has not.
        weights["first.bias"][0] = float("nan") if dtype is None else 1e5
        save_file(weights, file)
        load_weights(network, [file], KeyMap((("first", "0"),)), dtype)
    assert "1 of the small tensors hold NaN or infinity (first.bias)" in caplog.text
