"""Layers in int8 are whole-number arithmetic, by the weights that the layer has now; what can't be is refused."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sfumato import native
from sfumato.errors import ConfigError, NumericalError, OptionError, UnsupportedError
from sfumato.models import int8
from sfumato.models.convolution import Conv2d
from sfumato.models.int8 import Int8, Scale, missing, quantised, quantised_weights
from sfumato.models.linear import Linear
from sfumato.models.quantising import (
    Quantisation,
    attentions_of,
    dequantise,
    dynamic,
    fingerprint,
    layers_of,
    observing,
    possible,
    quantisation_of,
    quantise,
    without,
)
from sfumato.models.unet import UNet, UNetConfig

needs_int8 = pytest.mark.skipif(missing() is not None, reason=f"int8 needs {missing()}")

CONFIG = UNetConfig(
    channels=(16, 32),
    blocks_per_level=1,
    attention=(True, False),
    heads=(2, 2),
    depth=(1, 1),
    context_dim=24,
    norm_groups=8,
)


def rounded(x, scale):
    """What int8 makes of numbers, by its definition."""
    return ((x / scale.scale).round() + scale.zero).clamp(0, 255).sub(scale.zero) * scale.scale


def rounded_weights(weight):
    whole, scales = quantised_weights(weight)
    return whole.float() * scales.view(-1, *[1] * (weight.ndim - 1))


def error(answer, exact):
    return ((answer - exact).norm() / exact.norm()).item()


@pytest.fixture
def unet():
    torch.manual_seed(0)
    network = UNet(CONFIG).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim == 1 else 1 / math.sqrt(parameter[0].numel()))
    return network


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    x = torch.randn(2, 4, 8, 6).to(memory_format=torch.channels_last)
    return x, torch.tensor([3.0, 500.0]), torch.randn(2, 5, 24)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (-0.28, 11.0), (0.0, 0.0)])
def test_a_scale_reaches_from_end_to_end_and_has_zero(low, high):
    scale = Scale.of(low, high)
    x = torch.tensor([low, high, 0.0])
    assert (rounded(x, scale) - x).abs().max() <= 0.51 * scale.scale
    assert rounded(x, scale)[2] == 0
    assert 0 <= scale.zero <= 255


@needs_int8
def test_bytes_are_by_the_definition_and_saturate():
    x = torch.linspace(-5, 9, 1001)
    scale = Scale.of(-1.0, 3.0)
    assert torch.allclose((quantised(x, scale).float() - scale.zero) * scale.scale, rounded(x, scale), atol=scale.scale)
    assert quantised(torch.tensor([-99.0, 99.0]), scale).tolist() == [0, 255]


@needs_int8
def test_nothing_is_said_of_what_pytorch_has_deprecated():
    int8._warned.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantised(torch.zeros(3), Scale.of(-1, 1))


@needs_int8
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 40), (2, 5, 40), (1, 1, 3, 40)])
def test_a_linear_layer(bias, shape):
    torch.manual_seed(0)
    layer, x, scale = Linear(40, 24, bias=bias), torch.randn(shape), Scale.of(-2.0, 3.0)
    exact = F.linear(rounded(x, scale), rounded_weights(layer.weight), layer.bias)
    layer.int8 = Int8(scale)
    assert error(layer(x), exact) < 1e-5


@needs_int8
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [(3, {"padding": 1}), (1, {}), (3, {"padding": 1, "stride": 2}), (3, {}), (3, {"padding": (0, 1)})],
)
@pytest.mark.parametrize("size", [(2, 8, 8), (1, 7, 13)])
def test_a_convolution_has_zeros_around_the_map(kernel, options, channels_last, size):
    torch.manual_seed(0)
    images, *sides = size
    layer = Conv2d(20, 24, kernel, **options)
    x = F.silu(2 * torch.randn(images, 20, *sides))  # lopsided: its zero is not in the middle
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    scale = Scale.of(float(x.min()), float(x.max()))
    exact = F.conv2d(rounded(x, scale), rounded_weights(layer.weight), layer.bias, **options)
    layer.int8 = Int8(scale)
    answer = layer(x)
    assert error(answer, exact) < 1e-5
    assert not channels_last or answer.is_contiguous(memory_format=torch.channels_last)
    layer.int8 = Int8()
    assert error(layer(x), exact) < 1e-5, "without a scale, the input's own is taken"


@needs_int8
def test_other_weights_are_packed_anew():
    torch.manual_seed(0)
    layer, x = Linear(32, 32), torch.randn(5, 32)
    layer.int8 = Int8(Scale.of(-4, 4))
    with torch.no_grad():
        layer(x)
        layer.weight.mul_(-3)
        assert error(layer(x), F.linear(x, layer.weight, layer.bias)) < 0.02, "written in place"
        layer.weight = nn.Parameter(layer.weight / 2 + 1)
        assert error(layer(x), F.linear(x, layer.weight, layer.bias)) < 0.02, "replaced"
        layer.load_state_dict({"weight": torch.eye(32), "bias": torch.zeros(32)})
        assert error(layer(x), x) < 0.02, "loaded"
        layer.weight.data = 2 * torch.eye(32)
        assert error(layer(x), 2 * x) < 0.02, "moved elsewhere"
    layer.bias.data.fill_(7.0)
    assert error(layer(x) - 7, 2 * x) < 0.02, "the bias is read as it is"


@needs_int8
def test_a_copy_computes_the_same():
    layer, x = Conv2d(8, 8, 3), torch.randn(1, 8, 6, 6)
    layer.int8 = Int8(Scale.of(-4, 4))
    answer = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), answer)


@needs_int8
def test_what_is_no_number_is_refused():
    layer = Linear(8, 8)
    layer.int8 = Int8()
    with pytest.raises(NumericalError, match="NaN or infinity arose before"):
        layer(torch.full((1, 8), math.nan))
    layer.weight.data[0, 0] = math.inf
    layer.int8 = Int8(Scale.of(-1, 1))
    with pytest.raises(NumericalError, match="damaged"):
        layer(torch.zeros(1, 8))


@needs_int8
def test_another_precision_is_refused():
    layer = Linear(8, 8).to(torch.bfloat16)
    layer.int8 = Int8(Scale.of(-1, 1))
    with pytest.raises(UnsupportedError, match=r"bfloat16 on cpu; call pipe.dequantize\(\)"):
        layer(torch.zeros(1, 8, dtype=torch.bfloat16))


def test_what_the_machine_lacks_is_named(monkeypatch, unet):
    missing.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    try:
        with pytest.raises(UnsupportedError, match="int8 needs a"):
            quantise(unet, dynamic(unet))
        assert quantisation_of(unet) is None
    finally:
        missing.cache_clear()


@needs_int8
@pytest.mark.parametrize("odd", [math.nan, math.inf])
@pytest.mark.parametrize("scale", [None, Scale(0.1, 128)], ids=["dynamic", "static"])
def test_what_is_no_number_is_refused_before_it_becomes_one(scale, odd):
    layer, x = Linear(8, 8), torch.zeros(2, 8)
    layer.int8 = Int8(scale)
    x[1, 3] = odd
    with pytest.raises(NumericalError, match="arose before an int8 layer"):
        layer(x)
    if scale is not None:
        assert torch.isfinite(layer(torch.full((2, 8), 1e38))).all(), "a sum that overflows is no such thing"


@needs_int8
def test_a_u_net_comes_close_and_goes_back(unet, inputs):
    with torch.no_grad():
        exact = unet(*inputs)
        with observing(unet) as scales:
            assert torch.equal(unet(*inputs), exact), "what is looked at is computed in float"
        assert scales.keys() == layers_of(unet).keys()
        names = list(unet.state_dict())
        for way in (dynamic(unet), Quantisation(layers=scales, weights=fingerprint(unet))):
            quantise(unet, way)
            assert quantisation_of(unet) is way
            assert 1e-5 < error(unet(*inputs), exact) < 0.05
        assert list(unet.state_dict()) == names
        dequantise(unet)
        assert quantisation_of(unet) is None
        assert torch.equal(unet(*inputs), exact)


@needs_int8
def test_looking_leaves_the_network_as_it_was(unet, inputs):
    way = dynamic(unet)
    quantise(unet, way)
    with pytest.raises((AttributeError, TypeError)), torch.no_grad(), observing(unet):
        unet(*inputs[:2], "no context")
    assert quantisation_of(unet) is way
    assert not any(layer._forward_pre_hooks for layer in unet.modules())


def test_what_stays_in_float(unet):
    names = layers_of(unet).keys()
    assert {"down.0.resnet.conv1", "up.3.attention.blocks.0.feed_forward.proj_in", "down.1.conv"} <= names
    assert "down.0.attention.blocks.0.cross_attention.to_q" in names
    for kept in ("conv_in", "conv_out", "time_embedding.linear1", "down.0.resnet.time_proj",
                 "down.0.attention.blocks.0.cross_attention.to_k"):  # fmt: skip
        assert kept not in names
        unet.get_submodule(kept)
    with pytest.raises(UnsupportedError, match="not for Linear"):
        layers_of(Linear(1, 1))


def test_attentions_products_are_those_of_positions(unet):
    assert "down.0.attention.blocks.0.self_attention.products" in attentions_of(unet)
    assert not any("cross_attention" in name for name in attentions_of(unet))
    for name, layer in attentions_of(unet).items():
        assert unet.get_submodule(name.removesuffix(".products")) is layer


@needs_int8
@pytest.mark.skipif(native.why_not_in_bytes() is not None, reason=f"no kernel: {native.why_not_in_bytes()}")
def test_products_are_computed_in_bytes_unless_they_are_kept(unet, inputs):
    way = dynamic(unet)
    assert way.products == attentions_of(unet).keys()
    kept = without(way, ["down.0.attention.blocks.0.self_attention.products"])
    assert len(way.products - kept.products) == 1
    assert kept.layers == way.layers
    assert kept.name != way.name
    answers = []
    with torch.no_grad():
        for each in (way, kept, without(way, ["products"])):
            quantise(unet, each)
            assert {name for name, layer in attentions_of(unet).items() if layer.in_bytes} == each.products
            answers.append(unet(*inputs))
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])
    assert error(answers[0], answers[2]) < 0.02
    dequantise(unet)
    assert not any(layer.in_bytes for layer in attentions_of(unet).values())


@needs_int8
def test_without_a_kernel_products_stay_in_float(monkeypatch, unet):
    monkeypatch.setattr(native, "why_not_in_bytes", lambda: "there is no C compiler")
    way = dynamic(unet)
    assert not possible(way).products
    assert possible(way).layers == way.layers
    quantise(unet, way)
    assert quantisation_of(unet) is way, "what was asked for is remembered"


def test_a_fingerprint_is_of_the_numbers(unet):
    before = fingerprint(unet)
    assert fingerprint(copy.deepcopy(unet).to(memory_format=torch.channels_last)) == before
    unet.middle[0].resnet.conv1.weight.data *= 1.01
    assert fingerprint(unet) != before


def test_scales_are_kept_in_json():
    made = Quantisation(
        layers={"a": Scale(0.1, 3), "b": Scale(1e-7, 255)},
        products=frozenset({"a.products"}),
        weights="f" * 16,
        prompts=4,
    )
    again = Quantisation.from_json(made.to_json(), "scales.json")
    assert again == made
    assert again.name == made.name
    assert made.name.startswith("static-")
    assert without(made, ["a"]).name != made.name
    with pytest.raises(OptionError, match="'x' is in the name of no int8 layer"):
        without(made, ["x"])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other"}', '{"format": "sfumato int8 2", "weights": "", "prompts": 1, "layers": {"a": [0, 3]}}',
     '{"format": "sfumato int8 2", "weights": "", "prompts": 1, "layers": {"a": [1e999, 3]}}',
     '{"format": "sfumato int8 2", "weights": "", "prompts": 1, "layers": {"a": null}}',
     '{"format": "sfumato int8 2", "weights": "", "prompts": 1, "products": 3, "layers": {}}', "[" * 100_000, b"\xff"],
)  # fmt: skip
def test_damaged_scales_are_refused(text):
    with pytest.raises(ConfigError, match="holds no scales for int8"):
        Quantisation.from_json(text, "x.json")


@needs_int8
def test_scales_for_layers_that_are_not_there_are_refused(unet):
    with pytest.raises(ConfigError, match="1 layers that the U-Net has not"):
        quantise(unet, Quantisation(layers={"down.9": Scale(1.0, 0)}))
    if native.why_not_in_bytes() is None:
        with pytest.raises(ConfigError, match=r"such as down.9.products"):
            quantise(unet, Quantisation(layers={}, products=frozenset({"down.9.products"})))
