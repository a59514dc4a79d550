"""Attention is computed by the kernel in C from so many scores on as make it worth while, by PyTorch else, and the same either way."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato import native
from sfumato.models import attention as module
from sfumato.models import kernels
from sfumato.models.attention import Attention, attend

needs_kernel = pytest.mark.skipif(native.why_not() is not None, reason=f"no kernel: {native.why_not()}")


def numbers(positions: int, size: int = 40, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    source = torch.Generator().manual_seed(1)
    return [torch.randn(2, 4, positions, size, generator=source, dtype=dtype) for _ in range(3)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each question to the kernel was for bytes."""
    seen: list[bool] = []
    real = native.attention

    def watched(q: Tensor, k: Tensor, v: Tensor, *, in_bytes: bool = False) -> Tensor:
        seen.append(in_bytes)
        return real(q, k, v, in_bytes=in_bytes)

    monkeypatch.setattr(native, "attention", watched)
    return seen


@needs_kernel
@torch.no_grad()
def test_many_scores_go_to_the_kernel_and_come_out_the_same(asked: list[bool]) -> None:
    q, k, v = numbers(256)
    made = attend(q, k, v)
    assert asked == [False]
    torch.testing.assert_close(made, F.scaled_dot_product_attention(q, k, v), rtol=1e-5, atol=1e-6)
    assert torch.equal(attend(q, k, v, slice_size=1), made), "slices change no bit"
    assert torch.equal(attend(q[1:, 2:3], k[1:, 2:3], v[1:, 2:3]), made[1:, 2:3]), "neither do other rows and heads"


@needs_kernel
@torch.no_grad()
@pytest.mark.parametrize(
    "made", [numbers(127), numbers(256, 44), numbers(256, 264), numbers(256, dtype=torch.bfloat16)],
    ids=["few scores", "channels not by eights", "large heads", "half precision"],
)  # fmt: skip
def test_what_the_kernel_is_not_for_is_pytorchs(asked: list[bool], made: list[Tensor]) -> None:
    assert torch.equal(attend(*made), F.scaled_dot_product_attention(*made))
    assert asked == []


def test_gradients_go_through_pytorchs(asked: list[bool]) -> None:
    q, k, v = (each.requires_grad_() for each in numbers(256))
    attend(q, k, v).sum().backward()
    assert q.grad is not None
    assert asked == []


@torch.no_grad()
def test_without_a_kernel_it_is_pytorchs(monkeypatch: pytest.MonkeyPatch, asked: list[bool]) -> None:
    monkeypatch.setattr(native, "why_not", lambda: "there is no C compiler")
    monkeypatch.setattr(native, "why_not_in_bytes", lambda: "there is no C compiler")
    q, k, v = numbers(256)
    exact = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(attend(q, k, v), exact)
    assert torch.equal(attend(q, k, v, in_bytes=True), exact)
    assert asked == []


@pytest.mark.skipif(native.why_not_in_bytes() is not None, reason=f"no kernel: {native.why_not_in_bytes()}")
@torch.no_grad()
def test_a_layer_in_bytes_asks_for_them_at_any_size(asked: list[bool]) -> None:
    layer = Attention(80, 2)
    x = torch.randn(1, 20, 80)
    exact = layer(x)
    layer.in_bytes = True
    near = layer(x)
    assert asked == [True]
    assert 0 < (near - exact).norm() < 0.02 * exact.norm()
    assert module.MANY > 20 * 20


def learned(*made: Tensor, dtype: torch.dtype, **seen: object) -> list[Tensor]:
    """What attention gives, and what its numbers learn from it."""
    q, k, v = (each.detach().to(dtype).requires_grad_() for each in made)
    given = kernels.attention(q, k, v, **seen)  # type: ignore[arg-type]
    (given.float() ** 2).sum().backward()
    return [given.detach(), *(each.grad for each in (q, k, v) if each.grad is not None)]


@pytest.mark.parametrize("seen", ["all", "causal", "visible"])
def test_few_scores_teach_in_bfloat16_by_products_what_pytorchs_attention_would(
    monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    made = numbers(12)
    visible = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(2)) < 0.5
    visible |= torch.eye(12, dtype=torch.bool)
    how = {"all": {}, "causal": {"causal": True}, "visible": {"visible": visible}}[seen]
    exact = learned(*made, dtype=torch.float32, **how)
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    for ours, theirs in zip(learned(*made, dtype=torch.bfloat16, **how), exact, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("positions", [12, 300])
def test_where_nothing_is_learned_or_scores_are_many_bfloat16_is_pytorchs(positions: int) -> None:
    q, k, v = (each.bfloat16() for each in numbers(positions))
    exact = F.scaled_dot_product_attention(q, k, v)
    with torch.no_grad():
        assert torch.equal(kernels.attention(q, k, v), exact)
    if q.shape[2] * k.shape[2] > kernels.FEW:
        assert torch.equal(kernels.attention(q.requires_grad_(), k, v), exact)
