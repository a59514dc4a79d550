"""Norms and gates that answer in bytes round what PyTorch's would give, whatever the sizes and the threads."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato import native
from sfumato.errors import EngineError, NumericalError
from sfumato.native import bindings

pytestmark = pytest.mark.skipif(native.why_not_in_bytes() is not None, reason=f"no kernel: {native.why_not_in_bytes()}")

SCALE, ZERO = 0.03, 101


def rounded(x: Tensor) -> Tensor:
    return (x.double() / SCALE + ZERO).round().clamp(0, 255)


def check(made: Tensor, exact: Tensor) -> None:
    assert made.dtype == torch.uint8
    assert made.shape == exact.shape
    off = (made.double() - rounded(exact)).abs()
    assert off.max() <= 1
    assert (off > 0).double().mean() < 1e-3, "but for numbers in the middle between two bytes"


@pytest.mark.parametrize("width", [16, 48, 320, 1280])
@pytest.mark.parametrize("positions", [1, 31, 33, 200])
def test_layer_norm(width: int, positions: int) -> None:
    x = 3 * torch.randn(1, positions, width) + 5
    weight, bias = torch.randn(width), torch.randn(width)
    exact = F.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5)
    check(native.layer_normed(x, weight, bias, 1e-5, SCALE, ZERO), exact)


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize(
    ("rows", "width", "side", "groups"), [(1, 16, 1, 4), (2, 320, 9, 32), (3, 960, 4, 32), (2, 64, 16, 1)]
)
def test_group_norm(rows: int, width: int, side: int, groups: int, activated: bool) -> None:
    x = (3 * torch.randn(rows, width, side, side + 1) + 4).contiguous(memory_format=torch.channels_last)
    weight, bias, shift = torch.randn(width), torch.randn(width), torch.randn(rows, width)
    for added in (None, shift):
        y = x.double() if added is None else x.double() + added.double()[:, :, None, None]
        exact = F.group_norm(y, groups, weight.double(), bias.double(), 1e-5)
        made = native.group_normed(x, added, groups, weight, bias, 1e-5, activated, SCALE, ZERO)
        check(made, F.silu(exact) if activated else exact)
        assert made.is_contiguous(memory_format=torch.channels_last)


def test_a_group_that_is_flat_is_no_division_by_zero() -> None:
    x = torch.full((1, 32, 4, 4), 7.0).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.ones(32), torch.full((32,), 0.6)
    made = native.group_normed(x, None, 4, weight, bias, 1e-5, False, SCALE, ZERO)
    assert (made == round(0.6 / SCALE) + ZERO).all()


@pytest.mark.parametrize("width", [16, 48, 1280])
def test_gates(width: int) -> None:
    x = 3 * torch.randn(2, 37, 2 * width)
    x[0, 0, width:] = torch.linspace(-30, 30, width)
    value, gate = x.double().chunk(2, dim=-1)
    check(native.gated(x, SCALE, ZERO), value * F.gelu(gate))


def test_bits_depend_neither_on_threads_nor_on_other_rows() -> None:
    x = torch.randn(3, 64, 20, 20).contiguous(memory_format=torch.channels_last)
    weight, bias, shift = torch.randn(64), torch.randn(64), torch.randn(3, 64)

    def made(some: slice = slice(None)) -> list[Tensor]:
        tokens = x[some].permute(0, 2, 3, 1).flatten(1, 2)
        return [
            native.group_normed(x[some], shift[some], 8, weight, bias, 1e-5, True, SCALE, ZERO),
            native.layer_normed(tokens, weight, bias, 1e-5, SCALE, ZERO),
            native.gated(tokens, SCALE, ZERO),
        ]

    whole, before = made(), torch.get_num_threads()
    assert all(torch.equal(alone, each[1:2]) for alone, each in zip(made(slice(1, 2)), whole, strict=True))
    try:
        torch.set_num_threads(1)
        assert all(torch.equal(again, each) for again, each in zip(made(), whole, strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(odd: float) -> None:
    x, ones = torch.randn(2, 64, 5, 5).contiguous(memory_format=torch.channels_last), torch.ones(64)
    x[1, 40, 3, 3] = odd
    tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
    for made in (
        lambda: native.group_normed(x, None, 4, ones, ones, 1e-5, True, SCALE, ZERO),
        lambda: native.layer_normed(tokens, ones, ones, 1e-5, SCALE, ZERO),
        lambda: native.gated(tokens + 1, SCALE, ZERO),
    ):
        with pytest.raises(NumericalError, match="arose before an int8 layer"):
            made()


def test_numbers_of_the_wrong_sizes_are_refused() -> None:
    x, ones = torch.randn(2, 5, 40), torch.ones(40)
    with pytest.raises(AssertionError):
        native.gated(x, SCALE, ZERO)
    with pytest.raises(AssertionError):
        native.layer_normed(x, ones, ones, 1e-5, SCALE, ZERO)
    with pytest.raises(AssertionError):
        native.layer_normed(x[..., :32], ones, ones, 1e-5, SCALE, ZERO)
    with pytest.raises(AssertionError):
        native.layer_normed(x[..., :32].double(), ones[:32], ones[:32], 1e-5, SCALE, ZERO)


@pytest.mark.parametrize("name", bindings.BYTES)
def test_a_kernel_that_is_wrong_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __getattr__(self, _: str) -> Callable[..., int]:
            return lambda *_: 0  # and nothing written

    monkeypatch.setattr(Tensor, "new_empty", Tensor.new_zeros)
    monkeypatch.setattr(torch, "empty_like", torch.zeros_like)
    monkeypatch.setattr(bindings, "library", Wrong)
    with pytest.raises(EngineError, match=f"is wrong: {name} is off"):
        bindings.check(name)
