"""Generators by name, and what the web UI does to noise, held to its formulas written one number at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.diffusion.noise import NoiseSource, generator_of
from sfumato.diffusion.noise_rules import CARDS, NoiseRules, Rng, laid_on, slerp
from sfumato.errors import OptionError, UnknownNameError

SHAPE = (4, 6, 5)
CPU = Rng()
BOTH = pytest.mark.parametrize("rng", [Rng(), Rng("nv"), Rng("nv", 256)], ids=str)


def noise(seed: int, shape: tuple[int, ...] = SHAPE, rng: Rng = CPU) -> torch.Tensor:
    return generator_of(rng, seed).row(shape, 0, 1)


@pytest.mark.parametrize(
    ("text", "rng"),
    [("cpu", Rng()), ("NV", Rng("nv")), ("nv:512", Rng("nv", 512)), ("nv:T4", Rng("nv", 40960)), ("nv:RTX 3060", Rng("nv", 43008))],
)  # fmt: skip
def test_generators_by_name(text: str, rng: Rng) -> None:
    assert Rng.parse(text) == rng
    assert Rng.parse(str(rng)) == rng


def test_cards_have_whole_blocks() -> None:
    for card, threads in CARDS.items():
        assert Rng.parse(f"nv:{card}") == Rng("nv", threads)
        assert threads % 256 == 0


@pytest.mark.parametrize(
    "text", ["", "cuda", "cpu:4", "nv:", "nv:100", "nv:257", "nv:0", "nv:99999999999", "nv:²", "nv:tt4", None, 3]
)
def test_what_is_no_generator(text: object) -> None:
    with pytest.raises((OptionError, UnknownNameError)):
        Rng.parse(text)


def columns_turned(amount: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of each channel's columns, as vectors of plain numbers."""
    out = low.double().clone()
    for channel in range(low.shape[0]):
        for column in range(low.shape[2]):
            a, b = low[channel, :, column].tolist(), high[channel, :, column].tolist()
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
            angle = math.acos(max(-1.0, min(1.0, cosine)))
            first, second = math.sin((1 - amount) * angle), math.sin(amount * angle)
            mixed = [(first * x + second * y) / math.sin(angle) for x, y in zip(a, b, strict=True)]
            out[channel, :, column] = torch.tensor(mixed)
    return out.float()


@given(amount=st.floats(0, 1), seed=st.integers(0, 1000))
def test_mixed_noise_is_turned_column_by_column(amount: float, seed: int) -> None:
    low, high = noise(seed), noise(seed + 1)
    assert torch.allclose(slerp(amount, low, high), columns_turned(amount, low, high), atol=2e-4)


def test_mixed_noise_keeps_its_ends_and_its_length() -> None:
    low, high = noise(1, (4, 64, 64)), noise(2, (4, 64, 64))
    assert torch.allclose(slerp(0.0, low, high), low, atol=1e-6)
    assert torch.allclose(slerp(1.0, low, high), high, atol=1e-5)
    assert abs(slerp(0.5, low, high).std() - 1) < 0.02
    assert abs((low + high).mul(0.5).std() - 1) > 0.2, "a plain mean would lose a third of it"


def test_noise_mixed_with_itself_is_itself() -> None:
    assert torch.allclose(slerp(0.3, noise(1), noise(1)), noise(1), atol=1e-6)


def test_latents_one_row_high_stay_numbers() -> None:
    mixed = slerp(0.25, noise(1, (4, 1, 8)), noise(2, (4, 1, 8)))
    assert torch.allclose(mixed, noise(1, (4, 1, 8)) * 0.75 + noise(2, (4, 1, 8)) * 0.25)


@given(*[st.integers(1, 9) for _ in range(4)])
def test_noise_of_another_size_lies_on_the_middle(h: int, w: int, to_h: int, to_w: int) -> None:
    small, ground = torch.full((2, h, w), 1.0), torch.zeros(2, to_h, to_w)
    small[:, h // 2, w // 2] = 2.0
    out = laid_on(small, ground)
    assert out.shape == ground.shape
    assert torch.equal(ground, torch.zeros_like(ground)), "the ground is left as it is"
    # Where it has to be cut, and the difference is odd, the web UI cuts one more.
    high, wide = (own if own <= to else own + 2 * ((to - own) // 2) for own, to in ((h, to_h), (w, to_w)))
    assert int((out[0] > 0).sum()) == high * wide
    if high and wide:
        assert int((out[0] > 0).any(dim=1).sum()) == high
    if h <= to_h and w <= to_w:
        assert float(out.sum()) == float(small.sum())
        assert (out[0, (to_h - h) // 2 + h // 2, (to_w - w) // 2 + w // 2]) == 2.0


@BOTH
def test_a_variation_is_the_mix_of_two_seeds_first_noises(rng: Rng) -> None:
    source = NoiseSource(5, SHAPE, rules=NoiseRules(rng=rng, subseed=9, subseed_strength=0.3))
    assert torch.equal(source.draw(), slerp(0.3, noise(5, rng=rng), noise(9, rng=rng)))
    plain = NoiseSource(5, SHAPE, rules=NoiseRules(rng=rng))
    plain.draw()
    assert torch.equal(source.draw(), plain.draw()), "the noise of later steps is the seed's own"


@BOTH
def test_a_strength_of_nothing_changes_nothing(rng: Rng) -> None:
    source = NoiseSource(5, SHAPE, rules=NoiseRules(rng=rng, subseed=9))
    assert torch.equal(source.draw(), noise(5, rng=rng))


@BOTH
def test_seed_resize_begins_from_the_smaller_picture_s_noise(rng: Rng) -> None:
    rules = NoiseRules(rng=rng, seed_resize=(24, 32), subseed=9, subseed_strength=0.5)
    source = NoiseSource(5, (4, 8, 8), rules=rules)
    small = slerp(0.5, noise(5, (4, 4, 3), rng), noise(9, (4, 4, 3), rng))
    first = source.draw()
    assert torch.equal(first[:, 2:6, 2:5], small)
    assert torch.equal(first[:, :2], noise(5, (4, 8, 8), rng)[:, :2])
    plain = NoiseSource(5, (4, 8, 8), rules=NoiseRules(rng=rng))
    plain.draw()
    assert torch.equal(source.draw(), plain.draw())


def test_seed_resize_to_the_picture_s_own_size_is_none() -> None:
    own = NoiseSource(5, (4, 8, 6), rules=NoiseRules(seed_resize=(48, 64)))
    assert torch.equal(own.draw(), noise(5, (4, 8, 6)))
    fine = NoiseSource(5, (4, 8, 6), rules=NoiseRules(seed_resize=(24, 32)), scale=4)
    assert torch.equal(fine.draw(), noise(5, (4, 8, 6)))
    with pytest.raises(OptionError, match="32 pixels"):
        NoiseSource(5, (4, 8, 6), rules=NoiseRules(seed_resize=(16, 64)), scale=32)


@BOTH
def test_the_seed_delta_is_for_later_draws(rng: Rng) -> None:
    source = NoiseSource(5, SHAPE, rules=NoiseRules(rng=rng, eta_noise_seed_delta=31337))
    later = generator_of(rng, 5 + 31337)
    assert torch.equal(source.draw(), noise(5, rng=rng))
    for _ in range(2):
        assert torch.equal(source.draw(), later.row(SHAPE, 0, 1))


def test_the_generator_s_state_is_its_own_with_a_delta_too() -> None:
    delta, plain = (NoiseSource(5, SHAPE, rules=NoiseRules(eta_noise_seed_delta=number)) for number in (1, 0))
    delta.draw()
    plain.draw()
    assert delta.generator_state() == plain.generator_state()


@pytest.mark.parametrize(
    "rules",
    [
        {"subseed_strength": 0.5},
        {"subseed": 1, "subseed_strength": 1.5},
        {"subseed": 1, "subseed_strength": math.nan},
        {"seed_resize": (4, 64)},
    ],
)
def test_rules_that_can_t_be(rules: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        NoiseRules(**rules)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, "seven", None, 1.5])
def test_seeds_that_are_none_for_cuda_s_generator(seed: object) -> None:
    with pytest.raises(OptionError, match="seed"):
        generator_of(Rng("nv"), seed)  # type: ignore[arg-type]
