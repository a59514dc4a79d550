import pytest
import torch
from torch.nn import functional as F

from sfumato.allocator import reusing_memory
from sfumato.models.convolution import Conv2d
from sfumato.models.kernels import cheapest, convolution, linear
from sfumato.models.linear import Linear
from sfumato.models.winograd import KERNELS, TILES, blocks, parts, transformed_kernels, transforms, winograd


def error(answer, exact):
    return ((answer.double() - exact).abs().max() / exact.abs().max()).item()


def case(images, channels, outputs, height, width, bias=True, channels_last=True):
    torch.manual_seed(images * height + width)
    x = torch.randn(images, channels, height, width)
    weight = torch.randn(outputs, channels, 3, 3) / (9 * channels) ** 0.5
    if channels_last:
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return x, weight, torch.randn(outputs) if bias else None


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (0, 0)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4), (3, 3)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_it_is_the_convolution(tile, padding, size, channels_last):
    x, weight, bias = case(2, 24, 40, *size, channels_last=channels_last)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)
    with torch.no_grad():
        answer = winograd(x, weight, bias, padding, tile=tile)
    assert answer.shape == exact.shape
    assert answer.is_contiguous(memory_format=torch.channels_last)
    assert error(answer, exact) < 2e-5


@pytest.mark.parametrize(("tile", "bound"), [(2, 1.5), (4, 30.0)])
def test_its_rounding_is_that_of_a_direct_convolution_or_a_small_multiple(tile, bound):
    x, weight, bias = case(1, 256, 256, 16, 16)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    direct = error(F.conv2d(x, weight, bias, padding=1), exact)
    assert error(winograd(x, weight, bias, tile=tile), exact) < bound * direct


def test_without_a_bias():
    x, weight, _ = case(1, 16, 16, 8, 8, bias=False)
    assert torch.allclose(winograd(x, weight, None, tile=4), F.conv2d(x, weight, padding=1), atol=1e-4)


def test_parts_that_do_not_fit_the_workspace_make_the_same_picture(monkeypatch):
    x, weight, bias = case(2, 16, 48, 24, 20)
    whole = winograd(x, weight, bias, tile=4)
    # 20 outputs, and few rows of tiles, at a time.
    monkeypatch.setattr("sfumato.models.winograd.KERNELS", 36 * 16 * 20)
    monkeypatch.setattr("sfumato.models.winograd.TILES", 36 * 48 * 5 * 2)
    assert error(winograd(x, weight, bias, tile=4), whole.double()) < 2e-5


def test_where_memory_is_kept_parts_are_larger_and_no_bit_is_other():
    x, weight, bias = case(2, 320, 320, 96, 64)
    sparing = winograd(x, weight, bias, tile=4)
    with reusing_memory():
        assert torch.equal(winograd(x, weight, bias, tile=4), sparing)


def test_the_parts_cover_everything_once():
    assert [x for some in parts(1000, KERNELS // 300) for x in range(1000)[some]] == list(range(1000))
    seen = [
        (image, row)
        for images, rows in blocks(3, 50, TILES // 7, TILES)
        for image in range(3)[images]
        for row in range(50)[rows]
    ]
    assert sorted(seen) == [(image, row) for image in range(3) for row in range(50)]
    assert list(blocks(3, 50, 1, TILES)) == [(slice(0, 3), slice(0, 50))]


def test_kernels_are_the_same_from_either_layout():
    _, weight, _ = case(1, 8, 12, 4, 4, channels_last=False)
    maps = transforms(4)
    other = transformed_kernels(weight.contiguous(memory_format=torch.channels_last), maps)
    assert torch.allclose(transformed_kernels(weight, maps), other, atol=1e-6)


@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(1, 1, 3), (2, 1, 3), (1, 0, 1), (1, 0, 3), (2, 0, 1), (1, 2, 5)]
)
@pytest.mark.parametrize("grad", [True, False])
def test_the_layer_is_pytorchs(stride, padding, size, grad):
    torch.manual_seed(0)
    layer = Conv2d(192, 256, size, stride=stride, padding=padding)
    x = torch.randn(2, 192, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(grad):
        assert torch.allclose(layer(x), F.conv2d(x, layer.weight, layer.bias, stride, padding), atol=1e-4)


def test_the_linear_layer_is_pytorchs():
    layer, x = Linear(320, 640), torch.randn(2, 5, 320)
    expected = F.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, atol=1e-5)
        assert torch.allclose(linear(x[0, 0], layer.weight, None), F.linear(x[0, 0], layer.weight), atol=1e-5)
    assert layer(x).requires_grad


def test_gradients_are_kept():
    layer = Conv2d(256, 256, 3, padding=1)
    x = torch.randn(1, 256, 32, 32, requires_grad=True)
    layer(x).square().mean().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None


def test_other_precisions_are_left_alone():
    x, weight, bias = (t.bfloat16() for t in case(1, 256, 256, 32, 32))
    with torch.no_grad():
        assert torch.equal(convolution(x, weight, bias, padding=(1, 1)), F.conv2d(x, weight, bias, padding=1))


def test_what_is_chosen():
    assert cheapest(2, 320, 320, 64, 64) == "winograd 4"  # many tiles, and channels enough to pay for the transforms
    assert cheapest(2, 4, 320, 64, 64) == "direct"  # the first layer: nothing to save
    assert cheapest(2, 1280, 1280, 8, 8) in ("direct", "winograd 2")  # transforming the weights would cost more
    assert cheapest(1, 64, 64, 16, 16) == "direct"
