"""Weights that stay as they are stored compute what they would widened, to the bit."""

import copy

import pytest
import torch
from torch import nn

from sfumato.models import AutoencoderKL, CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig, VAEConfig
from sfumato.models.held import hold, is_held, release, widen

SMALL = UNetConfig(
    channels=(16, 32), attention=(True, False), heads=(2, 2), depth=(1, 1), blocks_per_level=1, context_dim=8, norm_groups=8
)  # fmt: skip


def halved(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.half().eval()


def pair(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A network of float16 widened for good, and one that is held."""
    stored = halved(network)
    return copy.deepcopy(stored).float(), hold(stored, torch.float32, channels_last=True)


@torch.no_grad()
def test_a_unet_answers_the_same_to_the_bit() -> None:
    plain, held = pair(UNet(SMALL))
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    context = torch.randn(2, 5, 8)
    assert torch.equal(plain(x, 500.0, context), held(x, 500.0, context))
    assert held.dtype == torch.float32
    assert {parameter.dtype for parameter in held.parameters()} == {torch.float16}


@torch.no_grad()
def test_an_autoencoder_and_a_text_encoder_do_too() -> None:
    plain, held = pair(AutoencoderKL(VAEConfig(channels=(8, 16), blocks_per_level=1, norm_groups=8)))
    z = torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last)
    assert torch.equal(plain.decode_whole(z), held.decode_whole(z))
    plain, held = pair(CLIPTextEncoder(CLIPTextConfig(vocab_size=50, width=16, layers=2, heads=2, mlp_width=32)))
    tokens = torch.tensor([[1, 7, 49, 2]])
    assert torch.equal(plain(tokens).hidden, held(tokens).hidden)


def test_what_is_saved_is_what_is_stored_and_layers_keep_their_names() -> None:
    _, held = pair(UNet(SMALL))
    expected = halved(UNet(SMALL)).state_dict()
    saved = held.state_dict()
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], expected[name]) for name in expected)
    assert type(held.conv_in).__name__ == "Conv2d"
    assert isinstance(held.conv_in, nn.Conv2d)
    assert held.conv_in.weight.dtype == torch.float32


def test_release_widens_for_good() -> None:
    plain, held = pair(UNet(SMALL))
    release(held)
    assert not is_held(held)
    assert {parameter.dtype for parameter in held.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), held.parameters(), strict=True))
    assert type(held.conv_in) is type(plain.conv_in)
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 8)
    with torch.no_grad():
        assert torch.equal(plain(x, 1.0, context), held(x, 1.0, context))


def test_one_layer_can_be_widened_by_itself() -> None:
    _, held = pair(UNet(SMALL))
    widen(held.conv_in)
    assert held.conv_in._parameters["weight"].dtype == torch.float32
    assert held.conv_out._parameters["weight"].dtype == torch.float16
    widen(nn.Linear(2, 2))  # of no held network: nothing to do


@torch.no_grad()
def test_a_copy_is_held_as_well() -> None:
    plain, held = pair(UNet(SMALL))
    again = copy.deepcopy(held)
    x, context = torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last), torch.randn(1, 5, 8)
    assert torch.equal(plain(x, 1.0, context), again(x, 1.0, context))
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float16}


def test_a_parameter_may_be_put_in() -> None:
    _, held = pair(UNet(SMALL))
    held.conv_in.weight = nn.Parameter(torch.ones_like(held.conv_in.weight))
    assert held.conv_in._parameters["weight"].dtype == torch.float32
    with pytest.raises(TypeError, match="Parameter"):
        held.conv_in.weight = torch.ones(1)
