"""The kernels for attention agree with the formula, whatever the sizes and strides, and a query's bits depend on nothing beside it."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato import native
from sfumato.errors import EngineError
from sfumato.native import bindings, building

needs_kernel = pytest.mark.skipif(native.why_not() is not None, reason=f"no kernel: {native.why_not()}")
needs_bytes = pytest.mark.skipif(
    native.why_not_in_bytes() is not None, reason=f"no kernel: {native.why_not_in_bytes()}"
)
BOTH = [pytest.param(False, marks=needs_kernel), pytest.param(True, marks=needs_bytes)]
in_float_and_in_bytes = pytest.mark.parametrize("in_bytes", BOTH, ids=["float32", "int8"])

SIZES = [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 104, 160, 256]
POSITIONS = [(1, 1), (3, 5), (8, 16), (9, 191), (21, 193), (520, 400)]


def numbers(queries: int, keys: int, size: int, rows: int = 2, heads: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """As a layer makes them: heads side by side for each position."""
    source = torch.Generator().manual_seed(queries + keys + size)
    q, k, v = (
        torch.randn(rows, count, heads, size, generator=source).transpose(1, 2) for count in (queries, keys, keys)
    )
    return 1.5 * q, 1.5 * k + 1, v


def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@needs_kernel
@pytest.mark.parametrize("size", SIZES)
def test_float32_is_the_formula(size: int) -> None:
    for queries, keys in POSITIONS:
        q, k, v = numbers(queries, keys, size)
        exact = formula(q, k, v)
        worst = (native.attention(q, k, v) - exact).abs().max() / exact.abs().max()
        assert worst < 3e-6, (queries, keys)


@needs_bytes
@pytest.mark.parametrize("size", SIZES)
def test_int8_is_near_the_formula(size: int) -> None:
    for queries, keys in POSITIONS:
        q, k, v = numbers(queries, keys, size)
        exact = formula(q, k, v)
        assert (native.attention(q, k, v, in_bytes=True) - exact).norm() < 0.03 * exact.norm(), (queries, keys)


@needs_bytes
@pytest.mark.parametrize("keys", [192, 1000], ids=["in its block", "in others"])
@pytest.mark.parametrize("gap", [5.0, 6.0, 6.5, 7.0])
def test_int8_counts_many_small_weights_beside_a_great_one(gap: float, keys: int) -> None:
    """One key that a query likes e to the power of `gap` times as much as all others: their sum must not be lost."""
    q, k, v = torch.zeros(1, 1, 1, 40), torch.zeros(1, 1, keys, 40), torch.zeros(1, 1, keys, 40)
    q[..., 0] = math.sqrt(40)
    k[0, 0, 0, 0] = gap
    v[0, 0, 1:, 0] = 1.0
    exact = float(formula(q, k, v)[0, 0, 0, 0])
    assert float(native.attention(q, k, v, in_bytes=True)[0, 0, 0, 0]) == pytest.approx(exact, abs=0.04)


@in_float_and_in_bytes
def test_a_query_gets_the_same_bits_whatever_is_beside_it(in_bytes: bool) -> None:
    q, k, v = numbers(700, 300, 40, rows=2, heads=4)
    whole = native.attention(q, k, v, in_bytes=in_bytes)
    for row, head in ((0, 0), (1, 3)):
        some = slice(row, row + 1), slice(head, head + 1)
        assert torch.equal(native.attention(q[some], k[some], v[some], in_bytes=in_bytes), whole[some])
    assert torch.equal(native.attention(q[:, :, 333:334], k, v, in_bytes=in_bytes), whole[:, :, 333:334])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(native.attention(q, k, v, in_bytes=in_bytes), whole)
    finally:
        torch.set_num_threads(before)


@in_float_and_in_bytes
def test_any_strides_are_read(in_bytes: bool) -> None:
    q, k, v = numbers(50, 70, 40)
    whole = native.attention(q, k, v, in_bytes=in_bytes)
    assert torch.equal(native.attention(q.contiguous(), k.contiguous(), v, in_bytes=in_bytes), whole)
    spread = torch.zeros(*v.shape, 2)
    spread[..., 0] = v
    assert torch.equal(native.attention(q, k, spread[..., 0], in_bytes=in_bytes), whole)
    shared = k[:1].expand(2, -1, -1, -1), v[:1].expand(2, -1, -1, -1)
    assert torch.equal(
        native.attention(q, *shared, in_bytes=in_bytes),
        native.attention(q, *(each.contiguous() for each in shared), in_bytes=in_bytes),
    )
    assert native.attention(q[:, :, :0], k, v, in_bytes=in_bytes).shape == (2, 3, 0, 40)


@in_float_and_in_bytes
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_hidden(in_bytes: bool, odd: float) -> None:
    def spoilt(which: int) -> Tensor:
        made = [each.clone() for each in numbers(30, 400, 40)]
        made[which][1, 2, 7, 5] = odd
        return ~native.attention(*made, in_bytes=in_bytes).isfinite()

    q, k, v = (spoilt(which) for which in range(3))
    assert q[1, 2, 7].all()
    assert q.sum() == 40, "one query, all of its channels"
    assert not k[0].any()
    assert not k[1, :2].any()
    if in_bytes or math.isnan(odd):
        assert k[1, 2].all(), "all queries look at that key"
    else:  # a score of minus infinity is a weight of zero
        assert k[1, 2].any()
    assert v[1, 2, :, 5].all()
    assert v.sum() == 30, "one channel of all queries"


@in_float_and_in_bytes
def test_the_callers_defaults_change_nothing(in_bytes: bool) -> None:
    q, k, v = numbers(30, 40, 40)
    whole, before = native.attention(q, k, v, in_bytes=in_bytes), torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float16)
        with torch.device("meta"):
            assert torch.equal(native.attention(q, k, v, in_bytes=in_bytes), whole)
            bindings.check("attention_int8" if in_bytes else "attention_float32")
        with torch.autocast("cpu"):
            bindings.check("attention_int8" if in_bytes else "attention_float32")
    finally:
        torch.set_default_dtype(before)


@in_float_and_in_bytes
def test_numbers_next_to_nothing_weigh_the_same(in_bytes: bool) -> None:
    q, v = torch.full((1, 1, 3, 8), 1e-44), torch.ones(1, 1, 11, 8)
    assert native.attention(q, torch.full((1, 1, 11, 8), 1e-40), v, in_bytes=in_bytes) == pytest.approx(1, rel=1e-5)
    assert native.attention(q, v, 1e-42 * v, in_bytes=in_bytes).abs().max() <= 1e-41


@in_float_and_in_bytes
def test_equal_keys_weigh_the_same(in_bytes: bool) -> None:
    """Zeros, and scores beyond what float32's exponentials reach."""
    zero = torch.zeros(1, 1, 10, 40)
    v = torch.arange(10.0).view(1, 1, 10, 1).expand(1, 1, 10, 40)
    assert native.attention(zero, zero, v, in_bytes=in_bytes) == pytest.approx(4.5, rel=0.01)
    far = torch.full((1, 1, 10, 40), 1e4)
    assert native.attention(far, far, v, in_bytes=in_bytes) == pytest.approx(4.5, rel=0.01)
    first = torch.zeros(1, 1, 10, 40)
    first[0, 0, 0] = 1e4
    assert native.attention(far, first, v + 1, in_bytes=in_bytes) == pytest.approx(1, rel=0.03)


@needs_kernel
def test_processors_without_avx512_are_served(tmp_path: Path) -> None:
    """Every processor with AVX-512 has AVX2: that build runs here too."""
    narrow = building.build(building.AVX2, tmp_path)
    assert not hasattr(narrow, "attention_int8")
    for size in SIZES:
        for queries, keys in POSITIONS[2:]:
            q, k, v = numbers(queries, keys, size)
            exact = formula(q, k, v)
            made = bindings._attention(narrow, q, k, v, "attention_float32")
            assert (made - exact).abs().max() < 3e-6 * exact.abs().max(), (size, queries, keys)


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        @staticmethod
        def attention_float32(*_: object) -> int:
            return 0  # and nothing written

    monkeypatch.setattr(bindings, "library", Wrong)
    with pytest.raises(EngineError, match="is wrong: attention_float32 is off"):
        bindings.check("attention_float32")
