"""The samplers, by the short names of the field.

Each is a generator function of x and the levels to visit (see `sfumato.diffusion.conversation`); what else it takes is its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sfumato.diffusion.conversation import Sampling
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddpm import ddpm
from sfumato.diffusion.samplers.dpmpp_2m import dpmpp_2m
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.samplers.euler_ancestral import euler_ancestral
from sfumato.diffusion.samplers.heun import heun
from sfumato.diffusion.samplers.lms import lms
from sfumato.diffusion.samplers.plms import plms
from sfumato.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerInfo:
    """What is known of a sampler.

    `order` is that of its error in the size of the steps, once a multistep sampler has its history (the tests measure it);
    `evaluations_per_step` leaves aside first and last steps that differ; a `stochastic` sampler takes noise on the way in any
    case (DDIM does where eta > 0).
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    function: Callable[..., Sampling]
    order: int
    evaluations_per_step: int = 1
    stochastic: bool = False
    paper: str


SAMPLERS: dict[str, SamplerInfo] = {
    info.name: info
    for info in (
        SamplerInfo(
            name="plms",
            title="PLMS",
            aliases=("PNDM", "PNDMScheduler"),
            function=plms,
            order=2,
            paper="Liu et al. 2022, arXiv:2202.09778",
        ),
        SamplerInfo(
            name="ddim",
            title="DDIM",
            aliases=("DDIMScheduler",),
            function=ddim,
            order=1,
            paper="Song et al. 2021, arXiv:2010.02502",
        ),
        SamplerInfo(
            name="ddpm",
            title="DDPM",
            aliases=("DDPMScheduler",),
            function=ddpm,
            order=1,
            stochastic=True,
            paper="Ho et al. 2020, arXiv:2006.11239",
        ),
        SamplerInfo(
            name="euler",
            title="Euler",
            aliases=("k_euler", "sample_euler", "EulerDiscrete", "EulerDiscreteScheduler"),
            function=euler,
            order=1,
            paper="Karras et al. 2022, arXiv:2206.00364",
        ),
        SamplerInfo(
            name="euler_a",
            title="Euler a",
            aliases=(
                "Euler ancestral",
                "k_euler_a",
                "k_euler_ancestral",
                "sample_euler_ancestral",
                "EulerAncestralDiscrete",
                "EulerAncestralDiscreteScheduler",
            ),
            function=euler_ancestral,
            order=1,
            stochastic=True,
            paper="K. Crowson, k-diffusion; Ho et al. 2020, arXiv:2006.11239",
        ),
        SamplerInfo(
            name="heun",
            title="Heun",
            aliases=("k_heun", "sample_heun", "HeunDiscrete", "HeunDiscreteScheduler"),
            function=heun,
            order=2,
            evaluations_per_step=2,
            paper="Karras et al. 2022, arXiv:2206.00364",
        ),
        SamplerInfo(
            name="lms",
            title="LMS",
            aliases=("k_lms", "sample_lms", "LMSDiscrete", "LMSDiscreteScheduler"),
            function=lms,
            order=4,
            paper="K. Crowson, k-diffusion",
        ),
        SamplerInfo(
            name="dpmpp_2m",
            title="DPM++ 2M",
            aliases=("k_dpmpp_2m", "sample_dpmpp_2m", "DPMSolverMultistep", "DPMSolverMultistepScheduler"),
            function=dpmpp_2m,
            order=2,
            paper="Lu et al. 2022, arXiv:2211.01095",
        ),
    )
}

SPACINGS: tuple[str, ...] = ("leading", "trailing", "linspace", "karras", "exponential")
"""The spacings by name (see `sfumato.diffusion.spacing`)."""

_BY_NAME = {
    name.lower(): info for info in SAMPLERS.values() for name in (info.name, info.title, *info.aliases)
}  # fmt: skip


def find_sampler(name: str) -> SamplerInfo:
    """The sampler of that name, title or alias, whatever its case. Raises UnknownNameError with the nearest names."""
    info = _BY_NAME.get(" ".join(name.lower().split()))
    if info is None:
        raise UnknownNameError(
            "sampler", name, [known for info in SAMPLERS.values() for known in (info.name, info.title)]
        )
    return info


def find_sampler_and_spacing(name: str) -> tuple[SamplerInfo, str | None]:
    """A sampler, and the spacing where the name ends in one, as in "DPM++ 2M Karras". Raises UnknownNameError."""
    first, _, last = name.strip().rpartition(" ")
    if first and last.lower() in SPACINGS:
        return find_sampler(first), last.lower()
    return find_sampler(name), None
