"""The engine: many images at once, each as if it were alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_engine import EULER, TINY
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters, Weighted, adapter_of
from sfumato.diffusion.conversation import Query, Sampling
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.engine import Conditioning, Engine, ImageDone, ImageFailed, Job, StepDone
from sfumato.errors import Cancelled, EvaluationError, NumericalError
from sfumato.models.unet import UNet
from sfumato.schedulers import (
    DDIMScheduler,
    HeunDiscreteScheduler,
    Scheduler,
    scheduler_for,
)

DDIM = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(TINY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def telling() -> UNet:
    """A network whose answers depend on what it is told, which one as initialised, its last layers zero, does not."""
    torch.manual_seed(0)
    network = UNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.2)
    return network


def context(seed: int, tokens: int = 5) -> Conditioning:
    return Conditioning(torch.randn(tokens, TINY.context_dim, generator=torch.Generator().manual_seed(seed)))


def job(
    seed: int,
    *,
    scheduler: Scheduler = EULER,
    steps: int = 4,
    scale: float = 5.0,
    shape: tuple[int, int, int] = SHAPE,
    conditionings: dict[str, Conditioning] | None = None,
    changes: dict[int, dict[str, Conditioning]] | None = None,
    weights: tuple[float, ...] = (1.0,),
    eta: float = 0.0,
    adapters: ActiveAdapters = NO_ADAPTERS,
) -> Job:
    levels = scheduler.levels(steps)
    source = NoiseSource(seed, shape)
    x = source.draw() * scheduler.initial_scale(levels)
    return Job(
        sampling=scheduler.start(x, levels, source.draw, eta=eta, path=source.path),
        steps=scheduler.steps_of(levels),
        conditionings=conditionings or {"cond": context(seed), "uncond": context(1000)},
        changes=changes or {},
        guidance=Guidance(scale=scale, unconditioned=scheduler.unconditioned, weights=weights),
        timestep=lambda sigma: levels.timestep(sigma, scheduler.noise_schedule),
        prediction="epsilon",
        adapters=adapters,
    )


def finish(engine: Engine, *jobs: Job) -> dict[int, Tensor]:
    tickets = [engine.submit(j) for j in jobs]
    done = {event.image: event.x for event in engine.run() if isinstance(event, ImageDone)}
    return {ticket: done[ticket] for ticket in tickets}


MIXED: list[Callable[[], Job]] = [
    lambda: job(1),
    lambda: job(2, steps=7, scale=1.0),
    lambda: job(3, scheduler=DDIM, steps=3, scale=9.0, eta=1.0),
    lambda: job(4, shape=(4, 4, 8)),
    lambda: job(5, conditionings={"cond": context(5, tokens=9), "uncond": context(6, tokens=9)}),
]


def test_an_image_is_bit_identical_alone_and_beside_others(unet: UNet) -> None:
    together = finish(Engine(unet), *[make() for make in MIXED])
    for ticket, make in enumerate(MIXED):
        alone = finish(Engine(unet), make())[0]
        assert torch.equal(alone, together[ticket]), f"job {ticket} depends on its neighbours"


EVERY: list[Callable[[], Job]] = [
    lambda name=name, steps=steps, scale=scale: job(
        steps, scheduler=scheduler_for(base=EULER, sampler=name), steps=steps, scale=scale
    )
    for name in SAMPLERS
    for steps, scale in ((3, 5.0), (20 if name == "restart" else 4, 1.0))
]


def test_with_every_sampler_an_image_is_bit_identical_alone_and_beside_all_others(telling: UNet) -> None:
    together = finish(Engine(telling), *[make() for make in EVERY])
    for ticket, make in enumerate(EVERY):
        alone = finish(Engine(telling), make())[0]
        assert torch.equal(alone, together[ticket]), f"job {ticket} depends on its neighbours"
        assert torch.isfinite(alone).all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 5, 21])
def test_steps_are_counted_to_the_number_that_was_said(unet: UNet, name: str, steps: int) -> None:
    scheduler = scheduler_for(base=EULER, sampler=name)
    engine = Engine(unet)
    engine.submit(job(1, scheduler=scheduler, steps=steps))
    events = [event for event in engine.run() if isinstance(event, StepDone)]
    said = scheduler.steps_of(scheduler.levels(steps))
    assert [event.step for event in events] == list(range(1, len(events) + 1))
    assert {event.steps for event in events} == {said}
    assert len(events) == said or (said is None and name == "dpm_adaptive")
    assert events[-1].sigma == scheduler.levels(steps).sigmas[-1]


def test_cfgpp_is_told_the_estimate_without_the_prompt_at_any_guidance(telling: UNet) -> None:
    """At a scale of 12.5 its step goes from what the prompt says; at 0 the prompt has no part in it."""
    scheduler = scheduler_for(base=EULER, sampler="ddim_cfgpp")
    other = {"cond": context(77), "uncond": context(1000)}
    without = [
        finish(Engine(telling), job(1, scheduler=scheduler, scale=0.0, conditionings=c))[0] for c in (None, other)
    ]
    assert torch.equal(*without)
    for scale in (0.5, 1.0, 12.5):
        guided = [
            finish(Engine(telling), job(1, scheduler=scheduler, scale=scale, conditionings=c))[0] for c in (None, other)
        ]
        assert not torch.equal(*guided)


def test_shared_batches_agree_to_rounding(unet: UNet) -> None:
    together = finish(Engine(unet, max_rows=16), *[make() for make in MIXED])
    for ticket, make in enumerate(MIXED):
        torch.testing.assert_close(together[ticket], finish(Engine(unet), make())[0], rtol=1e-4, atol=1e-4)


def test_rows_share_batches_up_to_the_limit(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = UNet.forward

    def counted(self: UNet, x: Tensor, *rest: object) -> Tensor:
        sizes.append(x.shape[0])
        return forward(self, x, *rest)

    monkeypatch.setattr(UNet, "forward", counted)
    finish(Engine(unet, max_rows=5), *[job(seed, steps=1) for seed in range(5)])
    assert sizes == [4, 4, 2]
    sizes.clear()
    finish(Engine(unet, max_rows=5, exact=True), *[job(seed, steps=1) for seed in range(3)])
    assert sizes == [2, 2, 2]
    sizes.clear()
    finish(Engine(unet), job(1, steps=2, scale=1.0))
    assert sizes == [1, 1], "guidance 1 must not pay for an unconditioned row"


def test_text_keys_and_values_are_computed_once(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    keys_values = UNet.keys_values
    monkeypatch.setattr(UNet, "keys_values", lambda self, c, told: calls.append(c) or keys_values(self, c, told))
    shared = context(7)
    jobs = [job(s, steps=6, conditionings={"cond": context(s), "uncond": shared}) for s in (1, 2)]
    finish(Engine(unet), *jobs)
    assert len(calls) == 3


def test_events_tell_every_step(unet: UNet) -> None:
    engine = Engine(unet, decode=lambda latents: tuple(latents.shape))
    engine.submit(job(1, steps=3))
    events = list(engine.run())
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(event.step, event.steps) for event in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [event.sigma for event in steps] == list(EULER.levels(3).sigmas[1:])
    assert steps[0].preview() == SHAPE
    assert isinstance(events[-1], ImageDone)
    assert events[-1].x.dtype == torch.float32


def test_a_listener_may_hand_back_another_x(unet: UNet) -> None:
    engine = Engine(unet)
    engine.submit(job(1, steps=3))
    for event in engine.run():
        if isinstance(event, StepDone) and event.step == 3:
            event.x = torch.full(SHAPE, 2.0)
        elif isinstance(event, ImageDone):
            assert torch.equal(event.x, torch.full(SHAPE, 2.0))


def test_cancelling_one_leaves_the_others_alone(unet: UNet) -> None:
    engine = Engine(unet)
    stopped, kept = engine.submit(job(1)), engine.submit(job(2))
    seen: list[int] = []
    for event in engine.run():
        if isinstance(event, StepDone):
            seen.append(event.image)
            engine.cancel(stopped)
        elif isinstance(event, ImageFailed):
            assert event.image == stopped
            assert isinstance(event.error, Cancelled)
        else:
            assert event.image == kept
            assert torch.equal(event.x, finish(Engine(unet), job(2))[0])
    assert seen.count(stopped) == 1
    assert seen.count(kept) == 4


@pytest.mark.parametrize("max_rows", [None, 16])
def test_nan_is_named_by_step_and_layer_and_fails_one_image_only(unet: UNet, max_rows: int | None) -> None:
    bad = Conditioning(torch.full((5, TINY.context_dim), torch.nan))
    engine = Engine(unet, max_rows=max_rows)
    good = engine.submit(job(1))
    broken = engine.submit(job(2, conditionings={"cond": bad, "uncond": context(1000)}))
    ended = {e.image: e for e in engine.run() if not isinstance(e, StepDone)}
    failure = ended[broken]
    assert isinstance(failure, ImageFailed)
    assert isinstance(failure.error, NumericalError)
    assert "step 1 of 4" in str(failure.error)
    assert "layer 'down." in str(failure.error)
    assert isinstance(ended[good], ImageDone)


def test_latents_that_are_not_finite_are_told_from_a_failing_network(unet: UNet) -> None:
    engine = Engine(unet)
    engine.submit(job(1))
    messages: list[str] = []
    for event in engine.run():
        if isinstance(event, StepDone) and event.step == 2:
            event.x = event.x * torch.nan
        elif isinstance(event, ImageFailed):
            messages.append(str(event.error))
    assert len(messages) == 1
    assert "latents themselves were not finite" in messages[0]
    assert "step 3 of 4" in messages[0]


def test_jobs_join_while_the_engine_runs(unet: UNet) -> None:
    engine = Engine(unet)
    engine.submit(job(1, steps=5))
    order: list[tuple[int, int]] = []
    for event in engine.run():
        if isinstance(event, StepDone):
            order.append((event.image, event.step))
            if order == [(0, 1)]:
                engine.submit(job(2, steps=2))
    assert order[:4] == [(0, 1), (0, 2), (1, 1), (0, 3)], "a late job has its first step in the next round"


def test_closing_ends_every_sampler(unet: UNet) -> None:
    engine = Engine(unet)
    late = job(1)
    engine.submit(late)
    events = engine.run()
    next(events)
    engine.close()
    assert list(events) == []
    with pytest.raises(StopIteration):
        next(late.sampling)


def broken_sampling() -> Sampling:
    yield Query(torch.zeros(SHAPE), 1.0)
    raise RuntimeError("no such luck\nand more")


def test_a_sampler_that_breaks_ends_its_own_image_only(unet: UNet) -> None:
    engine = Engine(unet)
    good = engine.submit(job(1))
    broken = engine.submit(replace(job(2), sampling=broken_sampling()))
    ended = {e.image: e for e in engine.run() if not isinstance(e, StepDone)}
    assert isinstance(ended[good], ImageDone)
    failure = ended[broken]
    assert isinstance(failure, ImageFailed)
    assert isinstance(failure.error, EvaluationError)
    assert str(failure.error) == "step 1 in the sampler could not be computed: no such luck"


def test_memory_that_runs_out_in_a_shared_batch_fails_only_who_does_not_fit(
    unet: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = UNet.forward

    def limited(self: UNet, x: Tensor, *rest: object) -> Tensor:
        if x.numel() > 2 * 4 * 8 * 8:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x, *rest)

    monkeypatch.setattr(UNet, "forward", limited)
    assert len(finish(Engine(unet, max_rows=16), job(1), job(2), job(3))) == 3, "each alone fits"


def test_a_cancellation_made_while_another_is_told_is_not_lost(unet: UNet) -> None:
    engine = Engine(unet)
    tickets = [engine.submit(job(seed)) for seed in range(3)]
    outcome: dict[int, type] = {}
    for event in engine.run():
        if isinstance(event, StepDone) and event.step == 1:
            engine.cancel(tickets[0])
        elif isinstance(event, ImageFailed):
            outcome[event.image] = type(event.error)
            engine.cancel(tickets[1])
        elif isinstance(event, ImageDone):
            outcome[event.image] = ImageDone
    assert outcome == {tickets[0]: Cancelled, tickets[1]: Cancelled, tickets[2]: ImageDone}


# -- adapters ----------------------------------------------------------------------------------------------------------


def lora(unet: UNet, seed: int, weight: float = 1.0) -> ActiveAdapters:
    """One that changes how the U-Net reads the text and the picture, of random numbers."""
    g = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for part, width in (("attn1_to_q", 8), ("attn2_to_k", TINY.context_dim), ("ff_net_2", 32)):
        name = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_{part}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, width, generator=g)
        tensors[f"{name}.lora_up.weight"] = torch.randn(8, 2, generator=g)
    return ActiveAdapters((Weighted(adapter_of(tensors, {"unet": unet}, f"lora {seed}"), {"unet": weight}),))


@pytest.fixture(scope="module")
def open_unet() -> UNet:
    """One whose last layers are not the zeros it starts with, so that what is inside shows."""
    torch.manual_seed(0)
    unet = UNet(TINY).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.normal_(std=0.2)
    return unet


@pytest.mark.parametrize("max_rows", [None, 16])
def test_pictures_with_other_adapters_beside_each_other_are_as_alone(open_unet: UNet, max_rows: int | None) -> None:
    one, two = lora(open_unet, 1), lora(open_unet, 2)
    choices = [NO_ADAPTERS, one, two, ActiveAdapters((*one.weighted, *two.weighted)), lora(open_unet, 1, 0.5)]
    alone = [finish(Engine(open_unet), job(1, adapters=choice))[0] for choice in choices]
    company = finish(Engine(open_unet, max_rows=max_rows), *(job(1, adapters=choice) for choice in choices * 2))
    for ticket, x in company.items():
        if max_rows is None:
            assert torch.equal(x, alone[ticket % len(choices)])
        torch.testing.assert_close(x, alone[ticket % len(choices)], atol=1e-4, rtol=1e-4)
    for i, x in enumerate(alone):
        for other in alone[:i]:
            assert not torch.allclose(x, other, atol=1e-2)


def test_one_conditioning_serves_pictures_with_other_adapters(open_unet: UNet) -> None:
    shared = {"cond": context(1), "uncond": context(2)}
    choices = [NO_ADAPTERS, lora(open_unet, 1), lora(open_unet, 2)]
    alone = [
        finish(Engine(open_unet), job(1, conditionings={"cond": context(1), "uncond": context(2)}, adapters=choice))[0]
        for choice in choices
    ]
    company = finish(Engine(open_unet), *(job(1, conditionings=shared, adapters=choice) for choice in choices))
    assert all(torch.equal(company[i], alone[i]) for i in range(len(choices)))


def test_what_is_read_beside_x_and_rules_for_steps_are_each_image_s_own() -> None:
    torch.manual_seed(0)
    wide = UNet(replace(TINY, in_channels=6)).eval().requires_grad_(False)
    for parameter in wide.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))  # its last layer begins at zero, and would hear nothing
    kept = torch.randn(SHAPE)

    def with_picture(seed: int, *, ruled: bool) -> Job:
        near = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(seed))
        rule = (
            (lambda step, last: torch.where(kept > 0, kept if last else kept + step.sigma, step.x)) if ruled else None
        )
        return replace(job(seed), beside={"cond": near, "uncond": near * 0}, at_step=rule)

    def jobs() -> list[Job]:
        return [with_picture(1, ruled=True), with_picture(2, ruled=False), with_picture(3, ruled=False)]

    alone = [finish(Engine(wide), one)[0] for one in jobs()]
    together = finish(Engine(wide), *jobs())
    for i, expected in enumerate(alone):
        assert torch.equal(together[i], expected)
    batched = finish(Engine(wide, max_rows=6), *jobs())
    torch.testing.assert_close(torch.stack([*batched.values()]), torch.stack(alone), atol=1e-4, rtol=1e-4)
    assert torch.equal(alone[0][kept > 0], kept[kept > 0])
    unread = replace(with_picture(2, ruled=False), beside={name: torch.zeros(2, 8, 8) for name in ("cond", "uncond")})
    assert not torch.equal(finish(Engine(wide), unread)[0], alone[1])


def test_conditionings_change_after_the_steps_they_are_said_to(open_unet: UNet) -> None:
    one, other, against = context(1), context(2), context(1000)
    rows = {"cond": one, "uncond": against}
    changed = finish(Engine(open_unet), job(1, conditionings=rows, changes={2: {"cond": other}}))[0]
    states: dict[str, list[Tensor]] = {}
    for name, each in (("one", {}), ("both", {2: {"cond": other}}), ("other", {0: {"cond": other}})):
        engine = Engine(open_unet)
        first = rows if name != "other" else {**rows, "cond": other}
        engine.submit(job(1, conditionings=first, changes=each if name == "both" else {}))
        states[name] = [event.x for event in engine.run() if isinstance(event, StepDone)]
    assert torch.equal(states["both"][1], states["one"][1])
    assert not torch.equal(states["both"][2], states["one"][2])
    assert torch.equal(changed, states["both"][-1])
    # After the first step the run is that of the other context alone, from where it then was.
    early = finish(
        Engine(open_unet), job(1, conditionings={**rows, "cond": other}, changes={1: {"cond": one}, 2: {"cond": other}})
    )
    assert not torch.equal(early[0], states["other"][-1])
    again = finish(Engine(open_unet), job(1, conditionings={**rows, "cond": other}, changes={1: {"cond": other}}))
    assert torch.equal(again[0], states["other"][-1])


def test_a_sampler_that_asks_twice_a_step_gets_one_conditioning_for_both(open_unet: UNet) -> None:
    heun = HeunDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    one, other, against = context(1), context(2), context(1000)
    rows = {"cond": one, "uncond": against}
    plain, changed = (Engine(open_unet), Engine(open_unet))
    plain.submit(job(1, scheduler=heun, conditionings=rows))
    changed.submit(job(1, scheduler=heun, conditionings=rows, changes={3: {"cond": other}}))
    before, after = ([e.x for e in engine.run() if isinstance(e, StepDone)] for engine in (plain, changed))
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_parts_of_a_prompt_are_rows_of_their_own(open_unet: UNet) -> None:
    rows = {"cond": context(1), "uncond": context(1000), "cond 2": context(2)}
    alone = finish(Engine(open_unet), job(1, conditionings=rows))[0]
    assert torch.equal(alone, finish(Engine(open_unet), job(1, conditionings=rows, weights=(1.0,)))[0])
    both = finish(Engine(open_unet), job(1, conditionings=rows, weights=(1.0, 0.5)))[0]
    assert not torch.equal(alone, both)
    nothing_of_it = finish(Engine(open_unet), job(1, conditionings=rows, weights=(1.0, 0.0)))[0]
    torch.testing.assert_close(nothing_of_it, alone)
