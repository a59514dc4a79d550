"""diffusers' scheduler names, as values: each names a sampler, a spacing and a noise schedule, and holds no state.

    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)

The fields of a class are the options of the diffusers class of that name, with its defaults, and its `config` reads and writes the
same `scheduler_config.json`. An option that would change the picture and is not honoured raises UnsupportedError; a model whose own
scheduler is such still opens, with an UnavailableScheduler in its place.
"""

from sfumato.schedulers.choice import scheduler_for, scheduler_from_config
from sfumato.schedulers.named import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from sfumato.schedulers.unavailable import UnavailableScheduler
from sfumato.schedulers.value import SCHEDULERS, Scheduler, SchedulerConfig

__all__ = [
    "SCHEDULERS",
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "Scheduler",
    "SchedulerConfig",
    "UnavailableScheduler",
    "scheduler_for",
    "scheduler_from_config",
]
