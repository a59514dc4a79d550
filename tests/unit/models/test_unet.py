import pytest
import torch
from torch import Tensor, nn

from sfumato.errors import ConfigError
from sfumato.models import KeysValues, UNet, UNetConfig

SMALL = UNetConfig(
    channels=(16, 32),
    blocks_per_level=1,
    attention=(False, True),
    heads=(2, 4),
    depth=(1, 2),
    context_dim=12,
    norm_groups=8,
    sample_size=8,
)


def awake(network: nn.Module) -> nn.Module:
    """The network with random weights also where training starts from zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return awake(UNet(SMALL)).eval()


def inputs(rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, 10, 6, generator=generator)
    return x, torch.linspace(0, 999, rows), torch.randn(rows, 5, 12, generator=generator)


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor(7.0), torch.tensor([7])])
def test_one_timestep_is_that_of_every_row(unet: UNet, timestep: Tensor | float) -> None:
    x, _, context = inputs()
    with torch.no_grad():
        assert torch.equal(unet(x, timestep, context), unet(x, torch.full((3,), 7.0), context))


def test_a_config_answers_to_the_names_of_diffusers(unet: UNet) -> None:
    config = unet.config
    assert config.block_out_channels == config["block_out_channels"] == config.channels
    assert (config.cross_attention_dim, config.in_channels, config.sample_size) == (12, 4, 8)
    assert dict(config)["attention_head_dim"] == (2, 4)
    assert config.get("nothing", 1) == 1
    assert "cross_attention_dim" in config
    with pytest.raises(AttributeError, match="no option 'nothing'; it has in_channels"):
        _ = config.nothing
    with pytest.raises(KeyError):
        _ = config["nothing"]
    assert (unet.dtype, unet.device) == (torch.float32, torch.device("cpu"))


def test_a_new_network_predicts_zero() -> None:
    assert UNet(SMALL)(*inputs()).abs().max() == 0


def test_every_parameter_learns() -> None:
    unet = awake(UNet(SMALL))
    unet(*inputs()).square().mean().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_flat_lists_are_as_the_config_says() -> None:
    config = UNetConfig()
    with torch.device("meta"):
        unet = UNet(config)
    # Four levels of two blocks, three changes of size; three blocks per level on the way up.
    assert (len(unet.down), len(unet.middle), len(unet.up)) == (4 * 2 + 3, 2, 4 * 3 + 3)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964


def test_levels_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match="disagree on the number of levels"):
        UNetConfig(channels=(16, 32))


def test_a_row_is_the_same_alone_and_in_a_batch(unet: UNet) -> None:
    x, timesteps, context = inputs()
    together = unet(x, timesteps, context)
    for row in range(3):
        alone = unet(x[row : row + 1], timesteps[row : row + 1], context[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_keys_and_values_of_several_texts_make_one_batch(unet: UNet) -> None:
    x, timesteps, context = inputs()
    expected = unet(x, timesteps, context)
    texts = unet.keys_values(context)
    assert texts.rows_count == 3
    assert len(texts.layers) == 2 * (1 + 1 + 2)  # two blocks each: one on the way down, the middle, two on the way up
    reordered = KeysValues.concat([texts.rows(2, 3), texts.rows(0, 2)])
    assert reordered.rows_count == 3
    order = [2, 0, 1]
    torch.testing.assert_close(unet(x[order], timesteps[order], reordered), expected[order], rtol=1e-4, atol=1e-5)
    assert texts.rows(0, 2).layers[0][0].data_ptr() == texts.layers[0][0].data_ptr(), "rows are no copy"


@pytest.mark.parametrize("heads", [1, 3, 100])
def test_attention_in_slices_gives_the_same_numbers(unet: UNet, heads: int) -> None:
    expected = unet(*inputs())
    unet.set_attention_slicing(heads)
    sliced = unet(*inputs())
    unet.set_attention_slicing(None)
    torch.testing.assert_close(sliced, expected, rtol=1e-5, atol=1e-6)


def test_channels_last_gives_the_same_numbers(unet: UNet) -> None:
    x, timesteps, context = inputs()
    expected = unet(x, timesteps, context)
    reordered = awake(UNet(SMALL)).to(memory_format=torch.channels_last)
    reordered.load_state_dict(unet.state_dict())
    found = reordered(x.to(memory_format=torch.channels_last), timesteps, context)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(unet: UNet, dtype: torch.dtype) -> None:
    x, timesteps, context = inputs()
    expected = unet(x, timesteps, context)
    half = awake(UNet(SMALL))
    half.load_state_dict(unet.state_dict())
    half.to(dtype)
    with torch.no_grad():
        found = half(x.to(dtype), timesteps, context.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - expected).norm() / expected.norm() < 0.05


def test_autocast(unet: UNet) -> None:
    expected = unet(*inputs())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        x, timesteps, context = inputs()
        found = unet(x, timesteps, unet.keys_values(context))
    assert (found.float() - expected).norm() / expected.norm() < 0.05


def test_compiles_whole(unet: UNet) -> None:
    x, timesteps, context = inputs()
    # This backend traces everything and generates no code: that it is one graph is ours, the code is PyTorch's.
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    with torch.no_grad():
        texts = unet.keys_values(context)
        torch.testing.assert_close(compiled(x, timesteps, texts), unet(x, timesteps, texts), rtol=1e-4, atol=1e-5)
