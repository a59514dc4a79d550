"""Guidance in the engine: which rows are evaluated when, and each image as if it were alone."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_engine import EULER, TINY
from torch import Tensor

from sfumato.diffusion.guidance import EVERYWHERE, WHOLE, Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.perturbation import Perturbation
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.engine import Conditioning, Engine, ImageDone, Job, StepDone
from sfumato.models.freeu import FreeU
from sfumato.models.unet import UNet
from sfumato.schedulers import KDiffusionScheduler, Scheduler, scheduler_for

MIDDLE = ("middle.0.attention.blocks.0.self_attention",)
PAG = Perturbation(scale=3.0, layers=MIDDLE)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.2)
    for name in network.self_attentions():  # so that what they do is heard
        network.get_submodule(f"{name}.to_out").weight.mul_(5)
    return network


def context(seed: int) -> Conditioning:
    return Conditioning(torch.randn(5, TINY.context_dim, generator=torch.Generator().manual_seed(seed)))


def job(
    seed: int,
    *,
    scheduler: Scheduler = EULER,
    steps: int = 4,
    scale: float = 5.0,
    weights: tuple[float, ...] = WHOLE,
    rescale: float = 0.0,
    interval: tuple[float, float] = EVERYWHERE,
    perturbation: Perturbation | None = None,
    freeu: FreeU | None = None,
) -> Job:
    levels = scheduler.levels(steps)
    source = NoiseSource(seed, (4, 8, 8))
    x = source.draw() * scheduler.initial_scale(levels)
    return Job(
        sampling=scheduler.start(x, levels, source.draw, path=source.path),
        steps=scheduler.steps_of(levels),
        conditionings={"cond": context(seed), "uncond": context(1000), "cond 2": context(seed + 50)},
        guidance=Guidance(
            scale=scale, unconditioned=scheduler.unconditioned, weights=weights, rescale=rescale, interval=interval,
            perturbation=perturbation,
        ),
        timestep=lambda sigma: levels.timestep(sigma, scheduler.noise_schedule),
        prediction="epsilon",
        freeu=freeu,
    )  # fmt: skip


def finish(engine: Engine, *jobs: Job) -> dict[int, Tensor]:
    tickets = [engine.submit(one) for one in jobs]
    done = {event.image: event.x for event in engine.run() if isinstance(event, ImageDone)}
    return {ticket: done[ticket] for ticket in tickets}


def drawn(unet: UNet, one: Job) -> Tensor:
    return finish(Engine(unet), one)[0]


MIXED: dict[str, Callable[[], Job]] = {
    "plain": lambda: job(1),
    "rescaled": lambda: job(1, rescale=0.7),
    "interval": lambda: job(1, interval=(0.5, 5.0)),
    "perturbed": lambda: job(1, perturbation=PAG),
    "perturbed elsewhere": lambda: job(1, perturbation=replace(PAG, layers=("down.0.attention.blocks.0.self_attention",))),
    "perturbed alone": lambda: job(1, scale=1.0, perturbation=PAG),
    "perturbed for a while": lambda: job(1, perturbation=replace(PAG, adaptive=0.006)),
    "freeu": lambda: job(1, freeu=FreeU(s1=0.9, s2=0.2, b1=1.2, b2=1.4)),
    "parts": lambda: job(1, weights=(1.0, -0.4), rescale=0.5, interval=(0.5, 5.0), perturbation=PAG),
    "cfg++": lambda: job(
        1, scheduler=scheduler_for(base=EULER, sampler="ddim_cfgpp"), interval=(0.5, 5.0), perturbation=PAG
    ),
    "all": lambda: job(
        1, rescale=0.7, interval=(0.5, 5.0), perturbation=PAG, freeu=FreeU(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    ),
}  # fmt: skip


@pytest.mark.parametrize("max_rows", [None, 16])
def test_images_with_other_guidance_beside_each_other_are_as_alone(unet: UNet, max_rows: int | None) -> None:
    alone = {name: drawn(unet, make()) for name, make in MIXED.items()}
    together = finish(Engine(unet, max_rows=max_rows), *(make() for make in [*MIXED.values()] * 2))
    for ticket, x in together.items():
        expected = alone[[*MIXED][ticket % len(MIXED)]]
        if max_rows is None:
            assert torch.equal(x, expected)
        torch.testing.assert_close(x, expected, atol=1e-3, rtol=1e-3)
    for name, x in alone.items():
        others = [other for other_name, other in alone.items() if other_name != name]
        assert not any(torch.allclose(x, other, atol=1e-2) for other in others), f"{name} is as another"


def test_what_does_nothing_changes_no_bit(unet: UNet) -> None:
    plain = drawn(unet, job(1))
    for neutral in (
        job(1, rescale=0.0),
        job(1, interval=(0.0, math.inf)),
        job(1, freeu=FreeU(s1=1, s2=1, b1=1, b2=1)),
        job(1, perturbation=replace(PAG, adaptive=100.0)),
    ):
        assert torch.equal(drawn(unet, neutral), plain)


def test_rows_that_guidance_does_not_ask_for_are_not_evaluated(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    forward = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, x, *rest, **said: rows.append(len(x)) or forward(self, x, *rest, **said)
    )
    sigmas = EULER.levels(8).sigmas
    drawn(unet, job(1, steps=8, interval=(sigmas[6], sigmas[2]), perturbation=PAG))
    assert rows == [1, 1, 3, 3, 3, 3, 1, 1]
    rows.clear()
    late = replace(PAG, adaptive=3.0 / 500)
    drawn(unet, job(1, steps=4, perturbation=late, scale=1.0))
    timesteps = EULER.levels(4).timesteps
    assert rows == [2 if 3.0 - late.adaptive * (1000 - t) > 0 else 1 for t in timesteps]
    assert set(rows) == {1, 2}
    rows.clear()
    finish(Engine(unet, max_rows=6), *(job(s, steps=1, perturbation=PAG) for s in range(3)), job(9, steps=1))
    assert rows == [6, 3, 2], "three rows an image; one that is not perturbed makes a batch of its own"


def test_outside_the_interval_a_run_is_an_unguided_one(unet: UNet) -> None:
    """From where guidance ends a run goes on as an unguided one would from there."""
    sigmas = EULER.levels(6).sigmas
    none = {"interval": (sigmas[0] * 2, sigmas[0] * 3)}
    for extra in ({}, {"rescale": 0.7}, {"perturbation": PAG}, {"weights": (1.0, 0.5)}):
        unguided = drawn(unet, job(1, steps=6, scale=1.0, weights=extra.get("weights", WHOLE)))  # type: ignore[arg-type]
        assert torch.equal(drawn(unet, job(1, steps=6, **none, **extra)), unguided)  # type: ignore[arg-type]


def test_cfgpp_outside_the_interval_is_ddim(unet: UNet) -> None:
    cfgpp, ddim = (KDiffusionScheduler(sampler_name=name, schedule="uniform") for name in ("ddim_cfgpp", "ddim"))
    outside = drawn(unet, job(1, scheduler=cfgpp, interval=(1e6, 2e6)))
    torch.testing.assert_close(outside, drawn(unet, job(1, scheduler=ddim, scale=1.0)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(outside, drawn(unet, job(1, scheduler=cfgpp)), atol=1e-2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_with_every_sampler_the_interval_is_kept(unet: UNet, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question of each step is guided where the step's level lies in the interval; all questions by their own sigma."""
    scheduler = scheduler_for(base=EULER, sampler=name)
    levels = scheduler.levels(8)
    low, high = levels.sigmas[6], levels.sigmas[3]
    engine, rows = Engine(unet), list[int]()
    forward = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, x, *rest, **said: rows.append(len(x)) or forward(self, x, *rest, **said)
    )
    engine.submit(job(1, scheduler=scheduler, steps=8, interval=(low, high)))
    firsts: list[tuple[float, int]] = []
    begun = levels.sigmas[0]
    for event in engine.run():
        if isinstance(event, StepDone):
            firsts.append((begun, rows[0]) if rows else (begun, 0))
            begun = event.sigma
            rows.clear()
    for sigma, count in firsts:
        if count:
            assert count == (2 if low < sigma <= high else 1), (sigma, count)
    counts = {count for _, count in firsts}
    assert {1, 2} <= counts
