"""Several requests in flight in one engine, beside the same ones one after the other."""

import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from bench.worker import GUIDANCE, Figures, Setting, median
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Conditioning, Engine, ImageFailed, Job, StepDone
from sfumato.schedulers import scheduler_for

WANTED = (
    ("euler", 2, "a red apple"),
    ("DPM++ 2M Karras", 4, "a lighthouse at dusk"),
    ("DDIM", 3, "two cats on a sofa"),
    ("Euler a", 3, "a bowl of cherries, oil painting"),
)
"""Samplers that evaluate the network once a step, steps, and prompts of the requests, over and over."""


def in_flight(pipe: Any, setting: Setting) -> Figures:
    """Seconds for all together and one by one, in turn, and how many steps others finish until the last to arrive has finished one."""
    run_alone(pipe, setting._replace(requests=1))  # the first evaluation of all doesn't count
    together: list[float] = []
    alone: list[float] = []
    waited: list[int] = []
    for _ in range(setting.repeats):
        alone.append(run_alone(pipe, setting))
        seconds, steps = run_together(pipe, setting)
        together.append(seconds)
        waited.append(steps)
    return {
        "seconds": median(together),
        "each": [round(one, 3) for one in together],
        "one by one": median(alone),
        "of one by one": median([one / other for one, other in zip(together, alone, strict=True)]),
        "steps waited": max(waited),
    }


def jobs(pipe: Any, setting: Setting) -> list[Job]:
    """The requests, none of them begun."""
    return [
        job(pipe, setting.size // 8, seed, *wanted)
        for seed, wanted in enumerate(islice(cycle(WANTED), setting.requests))
    ]


def job(pipe: Any, side: int, seed: int, sampler: str, steps: int, prompt: str) -> Job:
    """One request, as a pipeline call makes it."""
    cond, uncond = pipe.encode_prompt(prompt)
    scheduler = scheduler_for(base=pipe.scheduler, sampler=sampler)
    levels = scheduler.levels(steps)
    source = NoiseSource(seed, (pipe.unet.config.out_channels, side, side))
    return Job(
        sampling=scheduler.start(source.draw() * scheduler.initial_scale(levels), levels, source.draw, path=source.path),
        steps=scheduler.steps_of(levels),
        conditionings={"cond": Conditioning(cond[0]), "uncond": Conditioning(uncond[0])},
        guidance=Guidance(scale=GUIDANCE),
        timestep=lambda sigma: levels.timestep(sigma, scheduler.noise_schedule),
        prediction=scheduler.prediction_type,
    )  # fmt: skip


def drive(engine: Engine, wanted: Sequence[Job], late: Job | None = None) -> int:
    """Carry out jobs, and one that arrives `late`, with the first step of the others.

    Returns the most steps that one of the others finished between its arrival and the end of its own first step.
    """
    for one in wanted:
        engine.submit(one)
    ticket: int | None = None
    finished: dict[int, int] = {}
    waited: int | None = None
    for event in engine.run():
        if isinstance(event, ImageFailed):
            raise event.error
        if not isinstance(event, StepDone):
            continue
        if late is not None and ticket is None:
            ticket = engine.submit(late)
        elif event.image == ticket:
            waited = max(finished.values(), default=0) if waited is None else waited
        elif waited is None:
            finished[event.image] = finished.get(event.image, 0) + 1
    return waited or 0


def run_together(pipe: Any, setting: Setting) -> tuple[float, int]:
    """Seconds until all are done, and the steps that the last to arrive waited."""
    start = time.perf_counter()
    *early, last = jobs(pipe, setting)
    waited = drive(Engine(pipe.unet), early, last) if early else drive(Engine(pipe.unet), [last])
    return time.perf_counter() - start, waited


def run_alone(pipe: Any, setting: Setting) -> float:
    """Seconds for one after the other."""
    start = time.perf_counter()
    for one in jobs(pipe, setting):
        drive(Engine(pipe.unet), [one])
    return time.perf_counter() - start
