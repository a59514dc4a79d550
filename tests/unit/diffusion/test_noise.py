import pytest
import torch

from sfumato.diffusion.noise import NoiseSource
from sfumato.errors import OptionError

SHAPE = (4, 8, 8)


def test_one_image_draws_what_its_generator_draws():
    generator = torch.Generator().manual_seed(3)
    source = NoiseSource(3, SHAPE)
    for _ in range(3):
        assert torch.equal(source.draw(), torch.randn((1, *SHAPE), generator=generator)[0])


@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 1)])  # torch draws fewer than 16 numbers another way
def test_each_row_of_a_batch_can_be_drawn_alone(shape):
    generator = torch.Generator().manual_seed(3)
    sources = [NoiseSource(3, shape, index=i, count=3) for i in range(3)]
    for _ in range(2):
        batch = torch.randn((3, *shape), generator=generator)
        assert torch.equal(torch.stack([source.draw() for source in sources]), batch)


def test_a_state_continues_a_generator():
    source = NoiseSource(3, SHAPE)
    source.draw()
    again = NoiseSource(0, SHAPE, state=source.generator_state())
    assert torch.equal(again.draw(), source.draw())
    assert again.generator_state() == source.generator_state()


def test_sources_share_nothing_with_each_other_or_with_torch():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = NoiseSource(1, SHAPE), NoiseSource(1, SHAPE)
    one.draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one.draw(), other.draw())


def test_a_draw_is_float32_on_the_cpu_of_the_shape_of_the_image():
    noise = NoiseSource(1, SHAPE, index=1, count=2).draw()
    assert (noise.dtype, noise.device.type, tuple(noise.shape)) == (torch.float32, "cpu", SHAPE)


@pytest.mark.parametrize(("index", "count"), [(-1, 1), (1, 1), (0, 0)])
def test_a_row_outside_its_batch_is_an_error(index, count):
    with pytest.raises(OptionError, match="row"):
        NoiseSource(1, SHAPE, index=index, count=count)


@pytest.mark.parametrize("seed", [2**64, "seven", None, 1.5])
def test_a_seed_that_is_none_is_an_error(seed):
    with pytest.raises(OptionError, match="seed"):
        NoiseSource(seed, SHAPE)


def test_negative_seeds_and_the_largest_are_seeds():
    assert torch.equal(
        NoiseSource(-1, SHAPE).draw(), torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(-1))[0]
    )
    NoiseSource(2**64 - 1, SHAPE).draw()


@pytest.mark.parametrize("state", [b"", b"no generator state"])
def test_bytes_that_are_no_state_are_an_error(state):
    with pytest.raises(OptionError, match="state"):
        NoiseSource(0, SHAPE, state=state)
