import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import OptionError
from sfumato.models import AutoencoderKL, LatentDistribution, VAEConfig

SMALL = VAEConfig(channels=(8, 16, 16), blocks_per_level=1, norm_groups=4, sample_size=32)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(SMALL).eval().requires_grad_(False)


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


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    tile=st.integers(2, 9),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_tiles_of_any_size_make_the_whole_picture(height: int, width: int, tile: int, overlap: float) -> None:
    # A decoder that knows nothing of its surroundings: however it is tiled, the picture is the same.
    class Pointwise(AutoencoderKL):
        def decode_whole(self, latents: torch.Tensor) -> torch.Tensor:
            return latents[:, :3].repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)

    with torch.device("meta"):
        vae = Pointwise(SMALL)
    latents = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vae.decode_tiled(latents, tile, overlap), vae.decode(latents))


def test_tiling_and_slicing_are_switched_as_in_diffusers(vae: AutoencoderKL) -> None:
    latents = torch.randn(2, 4, 20, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, tiled = vae.decode(latents), vae.decode_tiled(latents)
        assert not torch.equal(whole, tiled)
        vae.enable_tiling()
        assert torch.equal(vae.decode(latents), tiled)
        vae.disable_tiling()
        vae.enable_slicing()
        torch.testing.assert_close(vae.decode(latents), whole)
        vae.disable_slicing()
        assert torch.equal(vae.decode(latents), whole)


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.25), (8, 1.0), (8, -0.1), (1, 0.5), (8, float("nan"))])
def test_tiles_that_can_not_be(vae: AutoencoderKL, tile: int, overlap: float) -> None:
    with pytest.raises(OptionError, match="makes no tiles"):
        vae.decode_tiled(torch.zeros(1, 4, 20, 20), tile, overlap)
