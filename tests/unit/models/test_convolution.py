"""Convolutions that wrap inside a block, and nowhere else."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sfumato.adapters.algorithms.full import Full
from sfumato.adapters.algorithms.lora import LoRA
from sfumato.models.convolution import NOWHERE, Axes, Conv2d, padded, wrapped_axes, wrapping
from sfumato.models.resnet import Downsample

X = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
BOTH: Axes = frozenset({-1, -2})


def layer(**options: int) -> Conv2d:
    torch.manual_seed(0)
    return Conv2d(3, 4, 3, padding=1, **options).requires_grad_(False)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_wraps_as_pytorch_s_own_circular_one(stride: int) -> None:
    ours = layer(stride=stride)
    circular = nn.Conv2d(3, 4, 3, padding=1, stride=stride, padding_mode="circular").requires_grad_(False)
    circular.load_state_dict(ours.state_dict())
    plain = ours(X)
    with wrapping(BOTH):
        torch.testing.assert_close(ours(X), circular(X))
    assert torch.equal(ours(X), plain)
    assert not torch.equal(circular(X), plain)


@pytest.mark.parametrize("dim", [-1, -2])
def test_along_one_axis_alone(dim: int) -> None:
    ours = layer()
    around = (1, 1, 0, 0) if dim == -1 else (0, 0, 1, 1)
    rest = (1, 0) if dim == -1 else (0, 1)
    expected = F.conv2d(F.pad(X, around, mode="circular"), ours.weight, ours.bias, padding=rest)
    with wrapping(frozenset({dim})):
        torch.testing.assert_close(ours(X), expected)


def test_padding_by_itself() -> None:
    assert padded(X, (0, 1, 0, 1))[..., -1, :].abs().max() == 0
    with wrapping(BOTH):
        around = padded(X, (0, 1, 0, 2))
    assert torch.equal(around[..., :6, 8], X[..., 0])
    assert torch.equal(around[..., 6:, :8], X[..., :2, :])
    down = Downsample(3, asymmetric=True)
    with torch.no_grad(), wrapping(BOTH):
        torch.testing.assert_close(down(X).roll((1, 2), (-2, -1)), down(X.roll((2, 4), (-2, -1))))


def test_adapters_wrap_with_their_layer() -> None:
    ours = layer()
    lora = LoRA(up=torch.randn(4, 2, 1, 1), down=torch.randn(2, 3, 3, 3), scale=0.5)
    core = LoRA(up=torch.randn(4, 2, 1, 1), down=torch.randn(2, 3, 1, 1), scale=0.5, mid=torch.randn(2, 2, 3, 3))
    for change in (lora, core, Full(weight=torch.randn(4, 3, 3, 3))):
        delta = change.weight_delta(ours.weight)
        assert delta is not None
        merged = layer()
        merged.weight += delta
        with wrapping(BOTH):
            torch.testing.assert_close(ours(X) + change.side(ours, X), merged(X))


def test_another_thread_does_not_wrap() -> None:
    seen: list[Axes] = []
    with wrapping(BOTH):
        thread = threading.Thread(target=lambda: seen.append(wrapped_axes()))
        thread.start()
        thread.join()
        with wrapping(NOWHERE):
            seen.append(wrapped_axes())
        seen.append(wrapped_axes())
    assert [*seen, wrapped_axes()] == [NOWHERE, NOWHERE, BOTH, NOWHERE]


def test_a_layer_is_compiled_in_one_piece() -> None:
    """Training compiles whole networks; looking up what wraps must not tear them."""
    ours = layer()
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), ours(X))
