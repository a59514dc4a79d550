import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import OptionError
from sfumato.models import AutoencoderKL, LatentDistribution, VAEConfig
from sfumato.models.convolution import Axes, Conv2d, wrapping

SMALL = VAEConfig(channels=(8, 16, 16), blocks_per_level=1, norm_groups=4, sample_size=32)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def loud() -> AutoencoderKL:
    """One whose layers, norms and attention all show in the picture."""
    torch.manual_seed(0)
    network = AutoencoderKL(SMALL).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.15)
    return network


def test_sizes(vae: AutoencoderKL) -> None:
    assert vae.scale == 4
    latents = vae.encode(torch.zeros(2, 3, 24, 40))
    assert latents.mean.shape == latents.logvar.shape == (2, 4, 6, 10)
    assert vae.decode(latents.mode()).shape == (2, 3, 24, 40)


def test_a_sample_is_mean_plus_deviation_times_noise() -> None:
    latents = LatentDistribution(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(latents.sample(torch.tensor([3.0, -1.0])), torch.tensor([4.0, 2.0 - torch.e]))
    torch.testing.assert_close(latents.mode(), torch.tensor([1.0, 2.0]))


def test_forward_is_encode_then_decode(vae: AutoencoderKL) -> None:
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    decoded, latents = vae(pixels)
    torch.testing.assert_close(decoded, vae.decode(latents.mode()))
    noise = torch.ones_like(latents.mean)
    torch.testing.assert_close(vae(pixels, noise)[0], vae.decode(latents.sample(noise)))


def test_extreme_variances_stay_finite(vae: AutoencoderKL) -> None:
    latents = vae.encode(1e6 * torch.ones(1, 3, 8, 8))
    assert latents.sample(torch.ones_like(latents.mean)).isfinite().all()


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    tile=st.integers(1, 9),
    axes=st.sampled_from([frozenset(), frozenset({-1}), frozenset({-2}), frozenset({-1, -2})]),
)
def test_tiles_of_any_size_make_the_whole_picture(
    loud: AutoencoderKL, height: int, width: int, tile: int, axes: Axes
) -> None:
    latents = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(0))
    # Of a size that is halved to an odd one, too.
    pixels = torch.randn(1, 3, 4 * height + 3, 4 * width + 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), wrapping(axes):
        assert_near(loud.decode_tiled(latents, tile), loud.decode_whole(latents))
        given = pixels.clone()
        whole, tiled = loud.encode_whole(pixels), loud.encode_tiled(pixels, tile)
        assert torch.equal(pixels, given), "layers' maps are written over, what was given is not"
    assert_near(tiled.mean, whole.mean)
    assert_near(tiled.logvar, whole.logvar)


def assert_near(tiled: torch.Tensor, whole: torch.Tensor) -> None:
    assert float(whole.abs().max()) > 0.3, "nothing to compare"
    assert float((tiled - whole).abs().max() / whole.abs().max()) < 1e-4


def test_a_tile_is_no_picture_of_its_own(loud: AutoencoderKL) -> None:
    """Far less than the promised 1/255 apart, where tiles that are normed by themselves are far more."""
    latents = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0)).cumsum(dim=-1)
    with torch.no_grad():
        whole = loud.decode_whole(latents)
        by_themselves = torch.cat([loud.decode_whole(half) for half in latents.split(6, dim=-1)], dim=-1)
        away = [float((each - whole).abs().max()) / 2 for each in (loud.decode_tiled(latents, 6), by_themselves)]
    assert away[0] < 0.01 / 255 < 10 / 255 < away[1]


def test_layers_see_tiles_and_never_the_whole_picture(loud: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = Conv2d.forward

    def watched(layer: Conv2d, x: torch.Tensor) -> torch.Tensor:
        sizes.append(max(x.shape[-2:]))
        return plain(layer, x)

    monkeypatch.setattr(Conv2d, "forward", watched)
    with torch.no_grad():
        loud.decode_tiled(torch.zeros(1, 4, 32, 32), 4)
        assert max(sizes) <= 32, (
            "a tile of 4 latents is 16 pixels wide, and no margin is; the latents themselves are whole"
        )
        sizes.clear()
        loud.decode_whole(torch.zeros(1, 4, 32, 32))
    assert max(sizes) == 128


def test_tiling_and_slicing_are_switched_as_in_diffusers(loud: AutoencoderKL) -> None:
    latents = torch.randn(2, 4, 20, 12, generator=torch.Generator().manual_seed(0))
    pixels = torch.randn(1, 3, 80, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, tiled, encoded = loud.decode(latents), loud.decode_tiled(latents), loud.encode_tiled(pixels)
        assert not torch.equal(whole, tiled)
        loud.enable_tiling()
        assert torch.equal(loud.decode(latents), tiled)
        assert torch.equal(loud.encode(pixels).mean, encoded.mean)
        loud.disable_tiling()
        assert torch.equal(loud.encode(pixels).mean, loud.encode_whole(pixels).mean)
        loud.enable_slicing()
        torch.testing.assert_close(loud.decode(latents), whole)
        loud.disable_slicing()
        assert torch.equal(loud.decode(latents), whole)


def test_pictures_of_training_s_size_are_not_tiled(loud: AutoencoderKL) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loud.decode_tiled(latents), loud.decode_whole(latents))


def test_tiles_in_half_precision(loud: AutoencoderKL) -> None:
    latents = torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    half = copy.deepcopy(loud).to(torch.bfloat16)
    with torch.no_grad():
        tiled, whole = half.decode_tiled(latents.bfloat16(), 4), half.decode_whole(latents.bfloat16())
    assert tiled.dtype == torch.bfloat16
    assert float((tiled - whole).abs().max() / whole.abs().max()) < 0.05


def test_attention_takes_some_queries_at_a_time(monkeypatch: pytest.MonkeyPatch, loud: AutoencoderKL) -> None:
    latents = torch.randn(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = loud.decode(latents)
        monkeypatch.setattr("sfumato.models.vae.SCORES", 5 * 42)
        torch.testing.assert_close(loud.decode(latents), whole)


@pytest.mark.parametrize("tile", [0, -3])
def test_tiles_that_can_not_be(vae: AutoencoderKL, tile: int) -> None:
    with pytest.raises(OptionError, match="makes no picture"):
        vae.decode_tiled(torch.zeros(1, 4, 20, 20), tile)
    with pytest.raises(OptionError, match="makes no picture"):
        vae.encode_tiled(torch.zeros(1, 3, 20, 20), tile)
