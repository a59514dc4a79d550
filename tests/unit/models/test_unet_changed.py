"""A U-Net whose self-attention is switched off in rows, and one whose way up weighs what it reads."""

import math

import pytest
import torch
from torch import Tensor

from sfumato.errors import OptionError
from sfumato.models import UNet, UNetConfig
from sfumato.models.freeu import FreeU, low_frequencies_scaled

SMALL = UNetConfig(
    channels=(16, 32, 32),
    blocks_per_level=1,
    attention=(True, True, False),
    heads=(2, 4, 4),
    depth=(1, 2, 1),
    context_dim=12,
    norm_groups=8,
    sample_size=8,
)
MIDDLE = "middle.0.attention.blocks.0.self_attention"


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(SMALL).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def inputs(rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, 12, 8, generator=generator)
    return x, torch.linspace(0, 999, rows), torch.randn(rows, 5, 12, generator=generator)


def test_rows_that_are_not_perturbed_are_as_they_were(unet: UNet) -> None:
    plain = unet(*inputs())
    perturbed = unet(*inputs(), unet.perturbing(unet.self_attentions(), [False, True, False]))
    assert torch.equal(perturbed[[0, 2]], plain[[0, 2]])
    assert not torch.allclose(perturbed[1], plain[1], atol=1e-3)
    assert torch.equal(unet(*inputs(), unet.perturbing((), [True] * 3)), plain)
    assert torch.equal(unet(*inputs(), unet.perturbing(unet.self_attentions(), [False] * 3)), plain)


@pytest.mark.parametrize("heads", [None, 1])
def test_a_perturbed_position_hears_itself_alone(unet: UNet, heads: int | None) -> None:
    layer = unet.get_submodule(MIDDLE)
    layer.slice_size = heads
    x = torch.randn(2, 6, 32)
    rows = torch.tensor([False, True])
    out = layer(x, None, rows)
    expected = layer.to_out(layer.to_v(x))
    assert torch.equal(out[1], expected[1])
    assert torch.equal(out[0], layer(x)[0])
    layer.slice_size = None
    x[1, 3] += 1
    moved = (layer(x, None, rows) - out).abs().amax(-1) > 0
    assert moved[1].tolist() == [False, False, False, True, False, False]


def test_the_self_attentions_are_told_in_the_order_they_are_called(unet: UNet) -> None:
    called: list[str] = []
    names = unet.self_attentions()
    hooks = [
        unet.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name)) for name in names
    ]
    unet(*inputs())
    for hook in hooks:
        hook.remove()
    assert called == names
    assert len(names) == 1 + 2 + 1 + 2 * (1 + 2)
    assert MIDDLE in names


def test_a_layer_that_looks_at_the_text_alone_is_no_self_attention() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig(only_cross=(True, False, False, False)))
    assert not any(name.startswith("down.0.") for name in network.self_attentions())


def test_factors_of_1_change_no_bit(unet: UNet) -> None:
    plain = unet(*inputs())
    neutral = FreeU(s1=1, s2=1, b1=1, b2=1)
    assert neutral.is_neutral
    assert torch.equal(unet(*inputs(), freeu=neutral), plain)
    for name in ("s1", "s2", "b1", "b2"):
        one = FreeU(**{"s1": 1, "s2": 1, "b1": 1, "b2": 1, name: 1.3})
        assert not one.is_neutral
        assert not torch.allclose(unet(*inputs(), freeu=one), plain, atol=1e-4), f"{name} does nothing"


def test_the_lowest_frequencies_are_those_that_are_scaled() -> None:
    flat = torch.full((1, 2, 6, 5), 3.0)
    torch.testing.assert_close(low_frequencies_scaled(flat, 0.25), flat / 4)
    across = torch.arange(6)[:, None] * torch.ones(5)
    fast = torch.cos(2 * math.pi * 3 * across / 6)[None, None]
    torch.testing.assert_close(low_frequencies_scaled(fast, 0.25), fast, atol=1e-6, rtol=0)
    half = flat.to(torch.bfloat16)
    assert low_frequencies_scaled(half, 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_that_can_t_be(wrong: float) -> None:
    with pytest.raises(OptionError, match="FreeU's b2 is"):
        FreeU(s1=1, s2=1, b1=1, b2=wrong)
