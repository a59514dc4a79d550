"""Windows over a picture: each a question of its own, their answers one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sfumato.diffusion.conversation import Query, Sampling
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Conditioning, Engine, ImageDone, Job, Windows
from sfumato.engine.job import Run
from sfumato.errors import NumericalError
from sfumato.models.convolution import NOWHERE, Axes, Conv2d
from sfumato.models.unet import UNet, UNetConfig
from sfumato.schedulers import EulerDiscreteScheduler

TINY = UNetConfig(
    channels=(8, 16), blocks_per_level=1, attention=(True, False), heads=(2, 2), depth=(1, 1), context_dim=12, norm_groups=4, sample_size=8
)  # fmt: skip
EULER = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
BOTH: Axes = frozenset({-1, -2})


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.2)
    return network


def job(
    seed: int, size: tuple[int, int] = (12, 20), windows: Windows | None = None, wraps: Axes = NOWHERE, roll: int = 0
) -> Job:
    levels = EULER.levels(3)
    source = NoiseSource(seed, (4, *size))
    x = source.draw() * EULER.initial_scale(levels)
    texts = [torch.randn(5, TINY.context_dim, generator=torch.Generator().manual_seed(place)) for place in (seed, 99)]
    return Job(
        sampling=EULER.start(x.roll((roll, roll), (-2, -1)), levels, source.draw, eta=0.0, path=source.path),
        steps=3,
        conditionings={"cond": Conditioning(texts[0]), "uncond": Conditioning(texts[1])},
        guidance=Guidance(scale=5.0),
        timestep=lambda sigma: levels.timestep(sigma, EULER.noise_schedule),
        prediction="epsilon",
        windows=windows,
        wraps=wraps,
    )


def drawn(unet: UNet, *jobs: Job, max_rows: int | None = None) -> list[Tensor]:
    engine = Engine(unet, max_rows=max_rows)
    tickets = [engine.submit(job) for job in jobs]
    done = {event.image: event.x for event in engine.run() if isinstance(event, ImageDone)}
    return [done[ticket] for ticket in tickets]


SMALL = Windows(height=8, width=8, overlap=2)


def test_one_window_that_holds_all_is_no_window_bit_for_bit(unet: UNet) -> None:
    for wraps in (NOWHERE, BOTH):
        (plain,), (through,) = (
            drawn(unet, job(1, windows=windows, wraps=wraps))
            for windows in (None, Windows(height=12, width=64, overlap=3))
        )
        assert torch.equal(plain, through)


def test_a_picture_through_windows_is_bit_identical_beside_others(unet: UNet) -> None:
    def mixed() -> list[Job]:
        return [
            job(1, windows=SMALL), job(2), job(3, windows=SMALL), job(4, wraps=BOTH), job(5, windows=SMALL, wraps=frozenset({-1})),
            job(6, windows=Windows(height=8, width=16, overlap=0)),
        ]  # fmt: skip

    together = drawn(unet, *mixed())
    for place, alone in enumerate(mixed()):
        assert torch.equal(drawn(unet, alone)[0], together[place]), f"job {place} depends on its neighbours"
    for batched, one in zip(drawn(unet, *mixed(), max_rows=16), together, strict=True):
        torch.testing.assert_close(batched, one, rtol=1e-3, atol=1e-3)


def test_the_network_sees_one_window_at_a_time(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    plain = UNet.forward

    def watched(network: UNet, x: Tensor, *others: object) -> Tensor:
        seen.append(tuple(x.shape))
        return plain(network, x, *others)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(UNet, "forward", watched)
    drawn(unet, job(1, windows=SMALL), job(2, windows=SMALL))
    # 12 takes two windows of 8, 20 three: six for each image and step.
    assert seen == [(2, 4, 8, 8)] * 6 * 3 * 2


def asked(x: Tensor, windows: Windows, wraps: Axes = NOWHERE, beside: Tensor | None = None) -> tuple[Tensor, list[Run]]:
    """What the windows make of a network that sees where it is: its answer is x, and what is beside it."""
    one = replace(job(1), windows=windows, wraps=wraps, beside=None if beside is None else {"cond": beside})
    run, runs = Run(0, one), []
    run.pending = Query(x, 1.0)

    def answer(seen: Sequence[Run]) -> list[Tensor]:
        runs.extend(seen)
        xs = [each.pending.x for each in seen if isinstance(each.pending, Query)]
        return [x if each.job.beside is None else each.job.beside["cond"] for x, each in zip(xs, seen, strict=True)]

    return windows.answers([run], answer)[0], runs


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), tall=st.integers(1, 17), wide=st.integers(1, 17),
    overlap=st.integers(0, 16), wraps=st.sampled_from([NOWHERE, frozenset({-1}), BOTH]),
)  # fmt: skip
def test_windows_that_agree_leave_nothing_of_themselves(
    height: int, width: int, tall: int, wide: int, overlap: int, wraps: Axes
) -> None:
    windows = Windows(height=tall, width=wide, overlap=min(overlap, tall - 1, wide - 1))
    x = torch.arange(float(height * width)).reshape(1, height, width) + 1
    whole, runs = asked(x, windows, wraps)
    torch.testing.assert_close(whole, x)
    torch.testing.assert_close(asked(x, windows, wraps, beside=-x)[0], -x)
    sizes = {each.pending.x.shape for each in runs if isinstance(each.pending, Query)}
    assert sizes == {(1, min(tall, height), min(wide, width))}
    for each in runs:
        assert each.job.wraps == {dim for dim, full in ((-2, tall >= height), (-1, wide >= width)) if full} & wraps


def test_where_windows_disagree_their_answers_fade_into_each_other() -> None:
    windows = Windows(height=8, width=8, overlap=4)
    run = Run(0, replace(job(1), windows=windows))
    run.pending = Query(torch.zeros(1, 1, 12), 1.0)
    answers = iter([torch.zeros(1, 1, 8), torch.ones(1, 1, 8)])
    (whole,) = windows.answers([run], lambda _: [next(answers)])
    assert whole[0, 0, :4].tolist() == [0] * 4
    assert whole[0, 0, 8:].tolist() == [1] * 4
    over = whole[0, 0, 4:8]
    assert (over.diff() > 0).all()
    torch.testing.assert_close(over, 1 - over.flip(0))


def test_pictures_roll_with_their_noise_where_they_wrap(unet: UNet) -> None:
    (plain,), (rolled,) = (drawn(unet, job(1, wraps=BOTH, roll=roll)) for roll in (0, 6))
    torch.testing.assert_close(plain.roll((6, 6), (-2, -1)), rolled, rtol=1e-4, atol=1e-4)
    (plain,), (rolled,) = (drawn(unet, job(1, roll=roll)) for roll in (0, 6))
    assert (plain.roll((6, 6), (-2, -1)) - rolled).abs().max() > 0.1, "without wrapping, edges show"


def test_windows_wrap_too(unet: UNet) -> None:
    """20 takes four windows of 8 that overlap by 3, at distances of 5: rolled by as much, each sees what its neighbour saw."""
    windows = Windows(height=12, width=8, overlap=3)
    wraps: Axes = frozenset({-1})
    (plain,), (rolled,) = (
        drawn(unet, replace(job(1, windows=windows, wraps=wraps), sampling=rolled_sampling(roll))) for roll in (0, 5)
    )
    torch.testing.assert_close(plain.roll(5, -1), rolled, rtol=1e-4, atol=1e-4)


def rolled_sampling(roll: int) -> Sampling:
    levels = EULER.levels(3)
    source = NoiseSource(1, (4, 12, 20))
    x = (source.draw() * EULER.initial_scale(levels)).roll(roll, -1)
    return EULER.start(x, levels, source.draw, eta=0.0, path=source.path)


def test_a_network_that_wraps_is_the_same_one_afterwards(unet: UNet) -> None:
    before = drawn(unet, job(1))[0]
    wrapped = drawn(unet, job(1, wraps=BOTH))[0]
    assert not torch.equal(before, wrapped)
    assert torch.equal(drawn(unet, job(1))[0], before)
    assert all(layer.padding_mode == "zeros" for layer in unet.modules() if isinstance(layer, Conv2d))


def test_what_is_not_finite_in_a_window_is_said(unet: UNet) -> None:
    engine = Engine(unet)
    broken = job(1, windows=SMALL)
    levels = EULER.levels(3)
    x = torch.zeros(4, 12, 20)
    x[0, 0, 0] = torch.nan
    engine.submit(replace(broken, sampling=EULER.start(x, levels, lambda: x, eta=0.0, path=lambda *_: lambda *_: x)))
    (failed,) = engine.run()
    assert isinstance(failed.error, NumericalError)  # pyright: ignore[reportAttributeAccessIssue]
