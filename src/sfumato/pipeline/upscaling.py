"""Models that enlarge a picture: to which sizes, what they are shown of it beside x, and how they are asked.

The ×4 upscaler is shown the small picture's pixels, made a little noisy, and told how noisy; the latent ×2 upscaler its latents, enlarged.
Source: Rombach et al. 2022, arXiv:2112.10752, section 4.4, with the conditioning augmentation of Ho et al. 2021, arXiv:2106.15282.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.checkpoints.families import make_of
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.prediction import Answer
from sfumato.diffusion.spacing import Levels
from sfumato.errors import SizeError
from sfumato.models import AnyUNetConfig, LatentUpscalerConfig
from sfumato.pipeline.encoding import Encoder
from sfumato.pipeline.request import MULTIPLE, check_count, whole
from sfumato.schedulers import Scheduler, scheduler_from_config
from sfumato.variants import UPSCALER

if TYPE_CHECKING:
    from sfumato.pipeline.workflow import Workflow

NOISE_LEVEL = 20
"""How noisy the small picture is made where nothing is said, as in diffusers."""

LATENT_TIMES = 2
"""How much larger the latent upscaler makes latents, along each side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Enlargement:
    """What a model makes of a picture's size: of most models, the same.

    times       how much larger it draws a picture, along each side
    multiple    of which the sides drawn are multiples, in pixels
    noise       the schedule by which a picture is made noisy before it is shown; None where it is shown as it is
    most_noise  the noisiest level of that schedule that the network is told
    """

    times: int = 1
    multiple: int = MULTIPLE
    noise: NoiseSchedule | None = None
    most_noise: int = 0

    def level(self, value: object) -> int:
        """A noise level, `NOISE_LEVEL` for None. Raises OptionError for one that the network is not told."""
        usual = min(NOISE_LEVEL, self.most_noise)
        return usual if value is None else check_count("noise_level", value, least=0, most=self.most_noise)


def enlargement_of(
    config: AnyUNetConfig, vae_scale: int, options: Mapping[str, Any], low_res: Mapping[str, Any] | None
) -> Enlargement:
    """What a U-Net makes of sizes, with latents of so many pixels; of the ×4 upscaler by its pipeline's `options` and noise schedule."""
    if isinstance(config, LatentUpscalerConfig):
        halvings = 2 ** (len(config.channels) - 1)
        return Enlargement(times=LATENT_TIMES, multiple=math.lcm(MULTIPLE, vae_scale * max(halvings, LATENT_TIMES)))
    if make_of(config)[0] != "upscaler":
        return Enlargement(multiple=math.lcm(MULTIPLE, vae_scale))
    noise = scheduler_from_config(low_res or UPSCALER.low_res_scheduler or {}).noise_schedule
    most = whole(options.get("max_noise_level"))
    most = int(UPSCALER.options["max_noise_level"]) if most is None else most
    return Enlargement(
        # The small picture lies beside x, pixel for latent.
        times=vae_scale,
        multiple=math.lcm(MULTIPLE, vae_scale * vae_scale),
        noise=noise,
        most_noise=min(most, (config.noise_levels or 1) - 1, noise.steps - 1),
    )


def shown(
    workflow: "Workflow", encoder: Encoder, sources: Sequence[NoiseSource], size: tuple[int, int]
) -> list[Tensor]:
    """What each image's network is shown beside x, `c h w` as large as its latents, float32 on the CPU; `size` is drawn, height and width.

    Noise is drawn before that of the images, one for all that begin from one picture, as in diffusers.
    Raises SizeError for latents that are not the size drawn, made smaller; NumericalError for a picture that can't be encoded.
    """
    image, enlargement = workflow.image, workflow.enlargement
    assert image is not None
    height, width = (side // enlargement.times for side in size)
    latents = image.tensor if image.is_latent() else None
    pixels = None if latents is not None else image.pixels(width, height, workflow.mode, by=Image.Resampling.BICUBIC)
    if latents is not None and any(
        side * enlargement.times != drawn for side, drawn in zip(latents.shape[-2:], sources[0].shape[-2:], strict=True)
    ):
        raise SizeError(
            f"latents of {latents.shape[-2]} × {latents.shape[-1]} can't be enlarged to {size[0]} × {size[1]} pixels, of which this model "
            f"draws multiples of {enlargement.multiple}; give latents of another size, or a picture, which is brought to one"
        )
    made: list[Tensor] = []
    for i, source in enumerate(sources):

        def noise(shape: Sequence[int], source: NoiseSource = source) -> Tensor:
            return source.draw_shared(workflow.among or len(image), tuple(shape))

        if latents is not None:
            made.append(enlarged(latents[i % len(image)].detach().to("cpu").float(), source.shape[-2:]))
            continue
        assert pixels is not None
        small = pixels[i % len(image)]
        if enlargement.noise is not None:
            made.append(enlargement.noise.noisy(small, noise(small.shape), workflow.noise_level or 0))
        else:
            channels, down, across = source.shape
            drawn = noise((channels, down // enlargement.times, across // enlargement.times))
            made.append(enlarged(encoder.sampled(small, drawn), source.shape[-2:]))
    return made


def enlarged(latents: Tensor, size: Sequence[int]) -> Tensor:
    """Latents `c h w` in another size, each repeated: what the latent upscaler was shown in training."""
    return F.interpolate(latents[None], size=tuple(size), mode="nearest")[0]


def asked_by(config: AnyUNetConfig, scheduler: Scheduler, levels: Levels) -> tuple[Callable[[float], float], Answer]:
    """What a network is told of sigma, and what it answers: a timestep, and what its scheduler says; of the latent upscaler Karras' own.

    Source: Karras et al. 2022, arXiv:2206.00364, Table 1 (c_noise, c_skip, c_out with a data variance of 1).
    """
    if isinstance(config, LatentUpscalerConfig):
        return (lambda sigma: math.log(sigma) / 4), "minus_v"
    schedule = scheduler.noise_schedule
    return (lambda sigma: levels.timestep(sigma, schedule)), scheduler.answer
