"""diffusers' scheduler names, as values: each names a sampler, a spacing and a noise schedule, and holds no state.

    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)

The fields of a class are the options of the diffusers class of that name, with its defaults, and its `config` reads and writes the
same `scheduler_config.json`. An option that would change the picture and is not honoured raises UnsupportedError; a model whose own
scheduler is such still opens, with an UnavailableScheduler in its place. KDiffusionScheduler is no class of diffusers: any sampler on
any schedule, as AUTOMATIC1111's web UI has them.
"""

from typing import TYPE_CHECKING

from sfumato.naming import loads_when_asked
from sfumato.schedulers.choice import CLASSES, scheduler_for, scheduler_freely, scheduler_from_config
from sfumato.schedulers.consistency import LCMScheduler, TCDScheduler
from sfumato.schedulers.dpm_solver import DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler
from sfumato.schedulers.edm import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from sfumato.schedulers.k_diffusion import KDiffusionScheduler
from sfumato.schedulers.sigma_space import (
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
)
from sfumato.schedulers.solvers import DEISMultistepScheduler, SASolverScheduler, UniPCMultistepScheduler
from sfumato.schedulers.unavailable import UnavailableScheduler
from sfumato.schedulers.value import SCHEDULERS, Scheduler, SchedulerConfig
from sfumato.schedulers.variance_preserving import DDIMScheduler, DDPMScheduler, PNDMScheduler

if TYPE_CHECKING:
    from sfumato.schedulers.settings import scheduler_from_settings

__all__ = [
    "CLASSES",
    "SCHEDULERS",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDiffusionScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "Scheduler",
    "SchedulerConfig",
    "TCDScheduler",
    "UnavailableScheduler",
    "UniPCMultistepScheduler",
    "scheduler_for",
    "scheduler_freely",
    "scheduler_from_config",
    "scheduler_from_settings",
]

# What reads other programs' settings is loaded with them alone.
__getattr__ = loads_when_asked(__name__, {"sfumato.schedulers.settings": ("scheduler_from_settings",)})
