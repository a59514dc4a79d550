"""The samplers, by the short names of the field.

Each is a generator function of x and the levels to visit (see `sfumato.diffusion.conversation`); what else it takes is its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sfumato.diffusion.conversation import Sampling
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.euler import euler
from sfumato.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerInfo:
    """What is known of a sampler: names, the function, order of convergence, network evaluations per step, source."""

    name: str
    title: str
    aliases: tuple[str, ...]
    function: Callable[..., Sampling]
    order: int
    evaluations_per_step: int
    stochastic: bool
    paper: str


SAMPLERS: dict[str, SamplerInfo] = {
    info.name: info
    for info in (
        SamplerInfo(
            name="ddim",
            title="DDIM",
            aliases=("DDIMScheduler",),
            function=ddim,
            order=1,
            evaluations_per_step=1,
            stochastic=False,
            paper="Song et al. 2021, arXiv:2010.02502",
        ),
        SamplerInfo(
            name="euler",
            title="Euler",
            aliases=("EulerDiscrete", "EulerDiscreteScheduler", "k_euler"),
            function=euler,
            order=1,
            evaluations_per_step=1,
            stochastic=False,
            paper="Karras et al. 2022, arXiv:2206.00364",
        ),
    )
}


def find_sampler(name: str) -> SamplerInfo:
    """The sampler of that name, title or alias, whatever its case. Raises UnknownNameError with the nearest names."""
    wanted = name.strip().lower()
    for info in SAMPLERS.values():
        if wanted in (info.name, info.title.lower(), *(alias.lower() for alias in info.aliases)):
            return info
    raise UnknownNameError("sampler", name, [known for info in SAMPLERS.values() for known in (info.name, info.title)])
