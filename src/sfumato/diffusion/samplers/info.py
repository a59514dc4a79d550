"""What is known of a sampler: its names, what it costs, what it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sfumato.diffusion.conversation import Sampling

Needs: TypeAlias = Literal["start", "steps", "path"]
"""Where noise comes in: at the start only, at steps, or at steps as the increments of one Brownian path."""


def one_each(sigmas: Sequence[float]) -> int:
    """The steps of a sampler that visits the levels it is given."""
    return len(sigmas) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerInfo:
    """What is known of a sampler.

    name, title, aliases   ours; the web UI's or the paper's; others that people know it by, diffusers' classes among them
    function               x and the levels in, a `Sampling` out; what else it takes is its own
    order                  of its error in the size of the steps, once a multistep sampler has its history (the tests measure it); for
                           one that takes noise, of its ODE without; None where it solves none
    evaluations_per_step   first and last steps that differ left aside
    noise                  where noise comes in; at steps it does so for DDIM and others only where eta or churn say
    unconditioned          whether it asks for the estimate without the prompt
    steps                  how many steps it offers on given levels; None where it finds out on the way
    schedule               the schedule that AUTOMATIC1111's web UI gives it by itself
    drops_penultimate      whether that leaves out the last level but one
    paper                  the source
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    function: Callable[..., Sampling]
    order: int | None
    evaluations_per_step: int = 1
    noise: Needs = "start"
    unconditioned: bool = False
    steps: Callable[[Sequence[float]], int | None] = one_each
    schedule: str = "uniform"
    drops_penultimate: bool = False
    paper: str

    @property
    def stochastic(self) -> bool:
        """Whether it takes noise on the way in any case."""
        return self.noise != "start"
