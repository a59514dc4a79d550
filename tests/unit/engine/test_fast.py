"""What a run spares: evaluations of the network's inside, and of guidance; each image as if it were alone."""

from collections.abc import Callable

import pytest
import torch
from tiny_engine import EULER, TINY
from torch import Tensor, nn

from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.engine import Conditioning, Engine, FastOptions, ImageDone, ImageFailed, Job
from sfumato.engine.fast import Remembered
from sfumato.errors import NumericalError, OptionError
from sfumato.models.unet import UNet
from sfumato.schedulers import Scheduler, scheduler_for


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.2)
    return network


def context(seed: int) -> Conditioning:
    return Conditioning(torch.randn(5, TINY.context_dim, generator=torch.Generator().manual_seed(seed)))


def job(
    seed: int,
    fast: FastOptions | None = None,
    *,
    scheduler: Scheduler = EULER,
    steps: int = 6,
    scale: float = 5.0,
    interval: tuple[float, float] | None = None,
    changes: dict[int, dict[str, Conditioning]] | None = None,
) -> Job:
    levels = scheduler.levels(steps)
    source = NoiseSource(seed, (4, 8, 8))
    guided = {} if interval is None else {"interval": interval}
    return Job(
        sampling=scheduler.start(
            source.draw() * scheduler.initial_scale(levels), levels, source.draw, path=source.path
        ),
        steps=scheduler.steps_of(levels),
        conditionings={"cond": context(seed), "uncond": context(1000)},
        changes=changes or {},
        guidance=Guidance(scale=scale, unconditioned=scheduler.unconditioned, **guided),
        timestep=lambda sigma: levels.timestep(sigma, scheduler.noise_schedule),
        prediction="epsilon",
        **({} if fast is None else {"fast": fast}),
    )


def finish(engine: Engine, *jobs: Job) -> dict[int, Tensor]:
    tickets = [engine.submit(one) for one in jobs]
    done = {event.image: event.x for event in engine.run() if isinstance(event, ImageDone)}
    return {ticket: done[ticket] for ticket in tickets}


def drawn(unet: UNet, one: Job) -> Tensor:
    return finish(Engine(unet), one)[0]


def evaluations(unet: UNet, one: Job) -> list[tuple[int, bool]]:
    """Of each evaluation of the network how many rows it had, and whether it was whole."""
    counted: list[tuple[int, bool]] = []
    middle: list[int] = []

    def outside(_: nn.Module, __: object, output: Tensor) -> None:
        counted.append((len(output), bool(middle)))
        middle.clear()

    hooks = [
        unet.middle[0].register_forward_hook(lambda *_: middle.append(1)),
        unet.conv_out.register_forward_hook(outside),
    ]
    drawn(unet, one)
    for hook in hooks:
        hook.remove()
    return counted


WHOLE, SPARED = True, False
MIXED: dict[str, Callable[[], Job]] = {
    "none": lambda: job(1),
    "cache": lambda: job(1, FastOptions(cache=2)),
    "cache more": lambda: job(1, FastOptions(cache=4)),
    "cache less deep": lambda: job(1, FastOptions(cache=2, cache_depth=0)),
    "merge": lambda: job(1, FastOptions(merge=0.5)),
    "merge more": lambda: job(1, FastOptions(merge=0.75)),
    "adaptive": lambda: job(1, FastOptions(adaptive=0.0)),
    "all": lambda: job(1, FastOptions(cache=3, merge=0.5, adaptive=0.0)),
    "ancestral": lambda: job(1, FastOptions(cache=2), scheduler=scheduler_for(base=EULER, sampler="euler_a"), steps=5),
}


@pytest.mark.parametrize("max_rows", [None, 16])
def test_images_that_spare_something_beside_each_other_are_as_alone(unet: UNet, max_rows: int | None) -> None:
    alone = {name: drawn(unet, make()) for name, make in MIXED.items()}
    together = finish(Engine(unet, max_rows=max_rows), *(make() for make in [*MIXED.values()] * 2))
    for ticket, x in together.items():
        expected = alone[[*MIXED][ticket % len(MIXED)]]
        if max_rows is None:
            assert torch.equal(x, expected)
        torch.testing.assert_close(x, expected, atol=1e-3, rtol=1e-3)
    for name, x in alone.items():
        others = [other for other_name, other in alone.items() if other_name != name]
        assert not any(torch.allclose(x, other, atol=1e-3) for other in others), f"{name} is as another"


def test_runs_that_come_later_are_as_alone(unet: UNet) -> None:
    """Those of one batch are at different places of their caches."""
    fast = FastOptions(cache=3)
    expected = [drawn(unet, job(seed, fast, steps=steps)) for seed, steps in ((1, 6), (2, 7), (3, 5))]
    engine = Engine(unet, max_rows=16)
    engine.submit(job(1, fast, steps=6))
    got: dict[int, Tensor] = {}
    for event in engine.run():
        if isinstance(event, ImageDone):
            got[event.image] = event.x
        elif not isinstance(event, ImageFailed) and event.step in (1, 2) and event.image == 0:
            engine.submit(job(event.step + 1, fast, steps=(7, 5)[event.step - 1]))
    for ticket, x in enumerate(expected):
        torch.testing.assert_close(got[ticket], x, atol=1e-4, rtol=1e-4)


def test_what_spares_nothing_changes_no_bit(unet: UNet) -> None:
    plain = drawn(unet, job(1))
    neutral = FastOptions(cache=1, cache_depth=3, merge=0.0, adaptive=None)
    for one in (job(1, FastOptions()), job(1, neutral)):
        assert torch.equal(drawn(unet, one), plain)
    assert evaluations(unet, job(1)) == evaluations(unet, job(1, neutral)) == [(2, WHOLE)] * 6


def test_between_whole_evaluations_only_the_outside_is(unet: UNet) -> None:
    assert evaluations(unet, job(1, FastOptions(cache=2))) == [(2, WHOLE), (2, SPARED)] * 3
    assert evaluations(unet, job(1, FastOptions(cache=4))) == [(2, WHOLE), *[(2, SPARED)] * 3, (2, WHOLE), (2, SPARED)]
    heun = scheduler_for(base=EULER, sampler="heun")
    assert [whole for _, whole in evaluations(unet, job(1, FastOptions(cache=3), scheduler=heun, steps=3))] == [
        WHOLE, SPARED, SPARED, WHOLE, SPARED,
    ]  # fmt: skip


def test_rows_that_were_not_seen_are_evaluated_whole(unet: UNet) -> None:
    """Where guidance begins there is nothing of the unconditioned row to take; where it ends there is of the other."""
    sigmas = EULER.levels(6).sigmas
    middle = job(1, FastOptions(cache=4), interval=(sigmas[4], sigmas[1]))
    assert evaluations(unet, middle) == [
        (1, WHOLE), (2, WHOLE), (2, SPARED), (2, SPARED), (1, WHOLE), (1, SPARED),
    ]  # fmt: skip


def test_another_prompt_takes_nothing_of_the_first(unet: UNet) -> None:
    changes = {2: {"cond": context(5)}}
    assert evaluations(unet, job(1, FastOptions(cache=6), changes=changes)) == [
        (2, WHOLE), (2, SPARED), (2, WHOLE), (2, SPARED), (2, SPARED), (2, SPARED),
    ]  # fmt: skip
    rows = [count for count, _ in evaluations(unet, job(1, FastOptions(adaptive=-1.0), changes=changes))]
    assert rows == [2, 1, 2, 1, 1, 1], "and is guided until it is seen to need no more"


def test_guidance_ends_when_both_answer_alike(unet: UNet) -> None:
    """The later, the more alike they have to be; from there the run goes on as an unguided one."""
    guided: list[int] = []
    sigmas = EULER.levels(6).sigmas
    rows = {
        threshold: [count for count, _ in evaluations(unet, job(1, FastOptions(adaptive=threshold)))]
        for threshold in (-1.0, 0.9, 0.9999, 1.0)
    }
    assert rows[-1.0] == [2, 1, 1, 1, 1, 1]
    assert rows[1.0].count(2) > 1
    for counts in rows.values():
        assert sorted(counts, reverse=True) == counts, "once ended, it has ended"
        guided.append(counts.count(2))
    assert sorted(guided) == guided
    ended = drawn(unet, job(1, FastOptions(adaptive=-1.0)))
    assert torch.equal(ended, drawn(unet, job(1, interval=(sigmas[1], sigmas[0] * 2))))


def test_two_pictures_in_much_noise_are_not_alike() -> None:
    """The noise that is seen with either would be: x is nothing else."""
    generator = torch.Generator().manual_seed(0)
    cond, uncond, noise = (torch.randn(4, 8, 8, generator=generator) for _ in range(3))
    for sigma in (20.0, 1.0, 0.05):
        remembered = Remembered(FastOptions(adaptive=0.9))
        x = cond + sigma * noise
        remembered.compare(x, sigma, {"uncond": uncond, "cond": cond})
        remembered.went_on()
        assert not remembered.ended
        remembered.compare(x, sigma, {"uncond": cond + 0.01 * sigma * uncond / (1 + sigma**2) ** 0.5, "cond": cond})
        assert not remembered.ended, "an answer counts once the run goes on by it"
        remembered.went_on()
        assert remembered.ended
    remembered.forget()
    assert not remembered.ended


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_spare(unet: UNet, name: str) -> None:
    scheduler = scheduler_for(base=EULER, sampler=name)
    fast = FastOptions(cache=2, merge=0.5, adaptive=0.5)
    x = drawn(unet, job(1, fast, scheduler=scheduler))
    assert torch.isfinite(x).all()
    assert torch.equal(x, drawn(unet, job(1, fast, scheduler=scheduler)))
    assert not torch.equal(x, drawn(unet, job(1, scheduler=scheduler)))


def test_an_answer_that_fails_leaves_nothing_behind(unet: UNet) -> None:
    """One image of a batch has NaN in its prompt: its neighbours are asked again, and are what they are alone."""
    fast = FastOptions(cache=2)
    expected = drawn(unet, job(1, fast))
    bad = job(2, fast, changes={3: {"cond": Conditioning(torch.full((5, TINY.context_dim), torch.nan))}})
    engine = Engine(unet, max_rows=16)
    engine.submit(job(1, fast))
    engine.submit(bad)
    ends = {event.image: event for event in engine.run() if isinstance(event, ImageDone | ImageFailed)}
    assert isinstance(ends[1], ImageFailed)
    assert isinstance(ends[1].error, NumericalError)
    torch.testing.assert_close(ends[0].x, expected, atol=1e-4, rtol=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong", [{"cache": 0}, {"cache_depth": -1}, {"merge": 0.8}, {"merge": -0.1}, {"adaptive": 1.1}]
)
def test_values_that_can_not_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        FastOptions(**wrong)  # type: ignore[arg-type]
