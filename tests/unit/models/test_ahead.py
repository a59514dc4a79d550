"""What comes before a layer in int8 hands it its bytes; before any other, or one that is watched, numbers as ever."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import native
from sfumato.adapters.beside import add_sides
from sfumato.models.ahead import gated, group_normed, layer_normed
from sfumato.models.convolution import Conv2d, wrapping
from sfumato.models.int8 import Int8, Scale, missing
from sfumato.models.linear import Linear
from sfumato.models.resnet import ResnetBlock

needs_bytes = pytest.mark.skipif(
    (missing() or native.why_not_in_bytes()) is not None, reason=f"{missing() or native.why_not_in_bytes()}"
)
SCALE = Scale(0.05, 128)


class Another(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return super().forward(input) + 1


def readers(*scales: Scale | None) -> list[Linear]:
    made = [Linear(32, 8) for _ in scales]
    for layer, scale in zip(made, scales, strict=True):
        layer.int8 = Int8(scale)
    return made


@needs_bytes
@torch.no_grad()
def test_layers_of_one_scale_get_bytes() -> None:
    norm, x = nn.LayerNorm(32), torch.randn(2, 5, 32)
    layers, whole = readers(SCALE, SCALE), nn.Module()
    made = layer_normed(norm, x, *layers, inside=whole)
    assert made.dtype == torch.uint8
    for layer in layers:
        torch.testing.assert_close(layer(made), layer(norm(x)))


@needs_bytes
@torch.no_grad()
@pytest.mark.parametrize(
    "why", ["other scales", "no scale", "float", "a hook", "a hook on the norm", "odd width", "gradients"]
)
def test_others_get_numbers(why: str) -> None:
    width = 33 if why == "odd width" else 32
    norm, x = nn.LayerNorm(width), torch.randn(2, 5, width)
    whole = nn.Module()
    layers = readers(SCALE, {"other scales": Scale(0.06, 128), "no scale": None}.get(why, SCALE))
    if why == "float":
        layers[1].int8 = None
    if why == "a hook":
        layers[0].register_forward_hook(lambda *_: None)
    if why == "a hook on the norm":
        norm.register_forward_hook(lambda *_: None)
    if why == "a hook around":
        whole.register_forward_pre_hook(lambda *_: None)
    if why == "another norm":
        norm = Another(width)
    everything = nn.modules.module.register_module_forward_pre_hook(lambda *_: None)
    try:
        if why != "a hook on everything":
            everything.remove()
        with torch.set_grad_enabled(why == "gradients"):
            assert torch.equal(layer_normed(norm, x, *layers, inside=whole), norm(x))
    finally:
        everything.remove()


@needs_bytes
@torch.no_grad()
def test_a_hook_that_is_idle_changes_nothing() -> None:
    norm, x, layers = nn.LayerNorm(32), torch.randn(2, 5, 32), readers(SCALE)
    layers[0].register_forward_hook(add_sides)
    assert layer_normed(norm, x, *layers, inside=nn.Module()).dtype == torch.uint8


@needs_bytes
@torch.no_grad()
def test_convolutions_that_wrap_get_numbers() -> None:
    layer = Conv2d(32, 8, 3, padding=1)
    layer.int8 = Int8(SCALE)
    norm, x = nn.GroupNorm(4, 32), torch.randn(1, 32, 6, 6).contiguous(memory_format=torch.channels_last)
    assert group_normed(norm, x, layer).dtype == torch.uint8
    with wrapping(frozenset({-1})):
        assert group_normed(norm, x, layer).dtype == torch.float32
    assert group_normed(norm, x.contiguous(), layer).dtype == torch.float32, "not channels last"


@torch.no_grad()
def test_in_float_they_are_pytorchs() -> None:
    norm, x, shift = nn.GroupNorm(4, 32), torch.randn(2, 32, 6, 6), torch.randn(2, 32)
    exact = F.silu(norm(x + shift[:, :, None, None]))
    assert torch.equal(group_normed(norm, x.clone(), Conv2d(32, 8, 3), shift=shift), exact)
    pairs = torch.randn(2, 64)
    assert torch.equal(gated(pairs, Linear(32, 8)), pairs[:, :32] * F.gelu(pairs[:, 32:]))


def test_gradients_reach_what_is_shifted() -> None:
    norm, x, shift = nn.GroupNorm(4, 32), torch.randn(2, 32, 6, 6, requires_grad=True), torch.randn(2, 32)
    before = x.detach().clone()
    group_normed(norm, x, Conv2d(32, 8, 3), shift=shift.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert shift.grad is not None
    assert torch.equal(x.detach(), before)


@needs_bytes
@torch.no_grad()
def test_a_block_comes_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = ResnetBlock(32, 48, time_width=16, norm_groups=8, eps=1e-5)
    nn.init.normal_(block.conv2.weight, std=0.1)
    for layer in (block.conv1, block.conv2, block.shortcut):
        assert layer is not None
        layer.int8 = Int8(Scale(0.03, 100))
    x, time = torch.randn(2, 32, 7, 7).contiguous(memory_format=torch.channels_last), torch.randn(2, 16)
    asked: list[Tensor] = []
    real = native.group_normed
    monkeypatch.setattr(native, "group_normed", lambda *a: asked.append(a[0]) or real(*a))
    by_bytes = block(x, time)
    assert len(asked) == 2
    monkeypatch.setattr(native, "why_not_in_bytes", lambda: "there is no C compiler")
    by_numbers = block(x, time)
    assert len(asked) == 2
    assert (by_bytes - by_numbers).norm() < 0.01 * by_numbers.norm()


@torch.no_grad()
def test_what_a_convolution_gave_out_is_not_written_over() -> None:
    block = ResnetBlock(32, 32, time_width=16, norm_groups=8, eps=1e-5)
    seen: list[tuple[Tensor, Tensor]] = []
    block.conv1.register_forward_hook(lambda _, __, output: seen.append((output, output.clone())))
    block(torch.randn(2, 32, 7, 7), torch.randn(2, 16))
    assert torch.equal(*seen[0])
