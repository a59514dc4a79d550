"""One noise source an image, equal to the rows of a batch drawn from one generator."""

import pytest
import torch

from sfumato.errors import OptionError
from sfumato.pipeline import randomness
from sfumato.pipeline.randomness import Seed, advance, seeds_of

SHAPE = (4, 6, 10)


def test_a_shared_generator_gives_the_rows_of_its_batch() -> None:
    expected = torch.Generator().manual_seed(9)
    batches = [torch.randn((3, *SHAPE), generator=expected) for _ in range(2)]
    sources = [seed.source(SHAPE) for seed in seeds_of(torch.Generator().manual_seed(9), 3)]
    for batch in batches:
        for row, source in zip(batch, sources, strict=True):
            assert torch.equal(source.draw(), row)


def test_a_used_generator_is_continued_and_recorded() -> None:
    used = torch.Generator().manual_seed(9)
    torch.randn(5, generator=used)
    (seed,) = seeds_of(used, 1)
    assert seed.state is not None
    assert seed.state_text is not None
    copy = torch.Generator()
    copy.set_state(used.get_state())
    assert torch.equal(seed.source(SHAPE).draw(), torch.randn((1, *SHAPE), generator=copy)[0])


def test_generators_are_advanced_as_if_they_had_been_drawn_from() -> None:
    mine, theirs = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    source = seeds_of(mine, 1)[0].source(SHAPE)
    source.draw()
    advance(mine, [source])
    torch.randn((1, *SHAPE), generator=theirs)
    assert torch.equal(mine.get_state(), theirs.get_state())


def test_a_list_has_one_generator_an_image() -> None:
    seeds = seeds_of([torch.Generator().manual_seed(s) for s in (4, 5)], 2)
    assert seeds == [Seed(seed=4), Seed(seed=5)]
    with pytest.raises(OptionError, match="2 generators for 3 images"):
        seeds_of([torch.Generator(), torch.Generator()], 3)
    with pytest.raises(OptionError, match=r"must be a torch\.Generator"):
        seeds_of([1, 2], 2)  # type: ignore[list-item]
    with pytest.raises(OptionError, match="for a seed"):
        seeds_of(123, 1)  # type: ignore[arg-type]


def test_a_generator_that_stands_twice_in_the_list_is_drawn_from_in_turn() -> None:
    shared = torch.Generator().manual_seed(3)
    first, second = seeds_of([shared, shared], 2)
    expected = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.source(SHAPE).draw(), expected[0])
    assert torch.equal(second.source(SHAPE).draw(), expected[1])


class Elsewhere(torch.Generator):
    """A generator that says it is of another device."""

    device = torch.device("meta")  # type: ignore[assignment]


def test_another_device_s_generator_gives_new_noise_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Elsewhere()
    generator.manual_seed(3)
    # A draw on the other device moves its generator on; here it is moved on the CPU.
    draw = torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda *size, **options: draw(*size, **{k: v for k, v in options.items() if k != "device"})
    )
    monkeypatch.setattr(
        randomness, "_fresh_state", lambda g: torch.Generator().manual_seed(g.initial_seed()).get_state()
    )
    seen: list[Seed] = []
    for _ in range(3):
        (seed,) = seeds_of(generator, 1)
        source = seed.source(SHAPE)
        source.draw()
        advance(generator, [source])
        seen.append(seed)
    assert seen[0] == Seed(seed=3)
    assert len({seed.seed for seed in seen}) == 3
    generator.manual_seed(3)
    assert seeds_of(generator, 1) == [Seed(seed=3)]
