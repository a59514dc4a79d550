"""Packed weights give the answers of those that are not, to the bit, and keep within their allowance."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sfumato.models.convolution import Conv2d, wrapping
from sfumato.models.held import hold
from sfumato.models.linear import Linear
from sfumato.models.network import Network
from sfumato.models.packing import SMALL_MAP, Allowance, Packed, drop_packed, pack, unpacked
from sfumato.models.unet import UNet, UNetConfig

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="without oneDNN nothing is packed")
ROOM = 1 << 30


class One(Network):
    """A network of one layer, stored in float16 and computed in float32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


def held(layer: Linear | Conv2d) -> Linear | Conv2d:
    torch.manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.05)
    hold(One(layer.half().requires_grad_(False)), torch.float32, channels_last=True)
    return layer


def map_of(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


CASES: dict[str, tuple[Callable[[], Linear | Conv2d], tuple[int, ...]]] = {
    "linear": (lambda: Linear(320, 512), (2, 64, 320)),
    "without a bias": (lambda: Linear(320, 512, bias=False), (2, 77, 320)),
    "1 × 1": (lambda: Conv2d(256, 320, 1), (2, 256, 8, 8)),
    "3 × 3": (lambda: Conv2d(640, 640, 3, padding=1), (2, 640, 4, 4)),
    "stride 2": (lambda: Conv2d(128, 128, 3, stride=2, padding=1), (2, 128, 9, 7)),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_same_to_the_bit(name: str) -> None:
    make, shape = CASES[name]
    layer, x = held(make()), map_of(*shape)
    expected = layer(x)
    allowance = Allowance(ROOM)
    layer.packed = Packed(allowance)
    first, again = layer(x), layer(x)
    assert allowance.left == ROOM - 4 * layer.weight.numel(), "it was packed, once"
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)
    assert first.stride() == expected.stride()


@torch.no_grad()
def test_a_linear_layer_s_serve_inputs_of_any_length() -> None:
    layer = held(Linear(320, 512))
    inputs = [map_of(rows, 320) for rows in (*range(1, 40, 3), 64, 77, 128, 154, 256, 300, 1000)]
    expected = [layer(x) for x in inputs]
    layer.packed = Packed(Allowance(ROOM))
    assert all(torch.equal(layer(x), y) for x, y in zip(inputs, expected, strict=True))


@torch.no_grad()
@given(
    inputs=st.sampled_from([128, 320, 960]), outputs=st.sampled_from([64, 320, 1280]), rows=st.integers(1, 4),
    height=st.integers(1, 8), width=st.integers(1, 8), stride=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_convolutions_of_any_size(inputs: int, outputs: int, rows: int, height: int, width: int, stride: int) -> None:
    layer, x = held(Conv2d(inputs, outputs, 3, stride=stride, padding=1)), map_of(rows, inputs, height, width)
    expected = layer(x)
    layer.packed = Packed(Allowance(ROOM))
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_a_convolution_s_are_laid_out_anew_for_a_shape_that_keeps_coming() -> None:
    layer = held(Conv2d(128, 128, 3, stride=2, padding=1))
    large, small = map_of(2, 128, 9, 7), map_of(3, 128, 6, 6)
    expected = layer(large), layer(small)
    layer.packed = Packed(allowance := Allowance(ROOM))
    layer(large)
    kept = layer.packed._kept
    for x in (small, small, large, small, small):  # by turns: nothing is laid out anew
        assert torch.equal(layer(x), expected[x is small])
        assert layer.packed._kept is kept
    assert torch.equal(layer(small), expected[1])
    assert layer.packed._kept is not kept
    assert allowance.left == ROOM - 4 * layer.weight.numel()
    assert torch.equal(layer(large), expected[0])


@torch.no_grad()
def test_other_weights_are_packed_anew_and_take_no_more_room() -> None:
    layer, x, allowance = held(Linear(320, 512)), map_of(64, 320), Allowance(ROOM)
    layer.packed = Packed(allowance)
    before, left = layer(x), allowance.left
    stored = layer._parameters["weight"]
    assert stored is not None
    stored.mul_(2)
    assert torch.allclose(layer(x) - layer.bias, 2 * (before - layer.bias), atol=1e-4)
    layer._parameters["weight"] = nn.Parameter(torch.zeros_like(stored), requires_grad=False)
    assert torch.equal(layer(x), layer.bias.expand(64, -1))
    assert allowance.left == left
    drop_packed(layer)
    assert allowance.left == ROOM


@torch.no_grad()
def test_what_is_not_packed() -> None:
    layer, allowance = held(Linear(320, 512)), Allowance(4 * 320 * 512 - 1)
    layer.packed = Packed(allowance)
    layer(map_of(64, 320))
    assert allowance.left == 4 * 320 * 512 - 1, "there is no room for it"
    layer.packed = Packed(allowance := Allowance(ROOM))
    layer(map_of(SMALL_MAP + 1, 320))
    assert allowance.left == ROOM, "the map is large"
    small = held(Linear(32, 32))
    small.packed = Packed(allowance)
    small(map_of(64, 32))
    assert allowance.left == ROOM, "the layer is small"


def test_gradients_and_wrapping_go_past_it() -> None:
    layer = held(Conv2d(640, 640, 3, padding=1))
    with torch.no_grad(), wrapping(frozenset({-1})):
        expected = layer(map_of(2, 640, 4, 4))
    layer.packed = Packed(Allowance(ROOM))
    with torch.no_grad():
        zeros_around = layer(map_of(2, 640, 4, 4))
        with wrapping(frozenset({-1})):
            assert torch.equal(layer(map_of(2, 640, 4, 4)), expected)
    assert not torch.equal(zeros_around, expected)
    x = map_of(2, 640, 4, 4).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None


@torch.no_grad()
def test_a_network_is_packed_but_for_the_keys_of_its_text_and_copies_share_the_allowance() -> None:
    config = UNetConfig(channels=(256, 256), heads=(4, 4), attention=(True, True), depth=(1, 1), context_dim=300, blocks_per_level=1)  # fmt: skip
    torch.manual_seed(0)
    unet = UNet(config).half().requires_grad_(False)
    hold(unet, torch.float32, channels_last=True)
    x, times, context = map_of(2, 4, 8, 8), torch.tensor([3.0, 3.0]), map_of(2, 5, 300)
    expected = unet(x, times, context)
    pack(unet, ROOM)
    assert torch.equal(unet(x, times, context), expected)
    packed = {name for name, layer in unet.named_modules() if isinstance(layer, Linear | Conv2d) and layer.packed is not None and layer.packed._kept is not None}  # fmt: skip
    rare = {f"{name}.{part}" for name, layer in unet.named_modules() if layer in set(unet.cross_attentions()) for part in ("to_k", "to_v")}  # fmt: skip
    assert rare
    assert not packed & rare
    assert len(packed) > 20
    twin = copy.deepcopy(unet)
    assert torch.equal(twin(x, times, context), expected)
    (one, *_), (other, *_) = ([layer.packed for layer in each.modules() if isinstance(layer, Linear) and layer.packed is not None] for each in (unet, twin))  # fmt: skip
    assert one is not other
    assert one.allowance is other.allowance


def test_inside_unpacked_nothing_is_packed_and_what_was_is_there_again() -> None:
    layer, x = Linear(320, 320), torch.randn(2, 16, 320)
    layer.packed = Packed(allowance := Allowance(ROOM))
    with torch.no_grad():
        with unpacked(layer):
            unpacked_answer = layer(x)
        assert allowance.left == ROOM
        assert torch.equal(layer(x), unpacked_answer)
        kept = layer.packed._kept
        assert kept is not None
        with unpacked(layer):
            layer(x)
        assert layer.packed._kept is kept
