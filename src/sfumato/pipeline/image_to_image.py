"""Where each image of a call begins: text to image is image to image from all the noise there is.

A picture is encoded, and noise added to it as at the level from which the run goes on; `strength` says how far down that is.
Source: Meng et al. 2022, arXiv:2108.01073, Algorithm 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.spacing import Levels
from sfumato.engine import StepRule
from sfumato.errors import OptionError
from sfumato.pipeline.encoding import Encoder
from sfumato.pipeline.inpainting import keep_outside, masked_away, under_mask
from sfumato.pipeline.masks import latent_mask
from sfumato.pipeline.pictures import Pictures
from sfumato.pipeline.resizing import stretched
from sfumato.pipeline.upscaling import shown
from sfumato.pipeline.workflow import Workflow
from sfumato.schedulers import Scheduler


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Start:
    """Where one image begins: x at the first level, the rule for its steps, and what its network reads beside x; as in a `Job`."""

    x: Tensor
    at_step: StepRule | None = None
    beside: Mapping[str, Tensor] | None = None


def levels_of(scheduler: Scheduler, steps: int, workflow: Workflow | None) -> Levels:
    """The levels that a run visits: all of them, or those that the workflow leaves. Raises OptionError where it leaves none.

    The web UI takes one step more than the share that the strength says, and its hires fix as many steps as are said, of a longer run.
    Source of both: its `setup_img2img_steps` and `sample_img2img`.
    """
    if workflow is None:
        return scheduler.levels(steps)
    share = min(workflow.strength, 0.999)
    taken = min(int(steps * workflow.strength), steps)
    if workflow.begun_as == "a1111" and share > 0:
        taken = min(int(steps * share) + 1, steps)
    elif workflow.begun_as == "a1111_exact" and share > 0:
        taken, steps = steps, int(steps / share)
    levels = scheduler.levels(steps)
    start, end = workflow.denoising
    train = scheduler.noise_schedule.steps
    if end is not None:
        cutoff = round(train - end * train)
        kept = sum(timestep >= cutoff for timestep in levels.timesteps)
        if kept < 1:
            raise OptionError(f"denoising_end {end} leaves none of {steps} steps; give more of either")
        levels = levels.part(0, kept)
    if start is not None:
        cutoff = round(train - start * train)
        skipped = sum(timestep >= cutoff for timestep in levels.timesteps)
    else:
        skipped = steps - taken
    if skipped >= levels.steps:
        said = f"strength {workflow.strength:g}" if start is None else f"denoising_start {start}"
        raise OptionError(f"{said} leaves none of {steps} steps; give more of either")
    return scheduler.tail(levels, skipped)


def starts(
    workflow: Workflow | None,
    encoder: Encoder,
    scheduler: Scheduler,
    levels: Levels,
    noises: "Noises",
    *,
    size: tuple[int, int],
    reads: int,
    device: torch.device,
) -> list[Start]:
    """One Start an image, x in float32 on the device. `size` is height and width in pixels; the network `reads` so many channels.

    Noise is drawn in diffusers' order: for the picture's latents, to begin from, for the masked picture's latents.
    Raises NumericalError for a picture that can't be encoded.
    """
    if workflow is None or workflow.image is None:
        return [Start(x=(noise * scheduler.initial_scale(levels)).to(device)) for noise in noises.units()]
    if workflow.name == "upscale":
        beside = [one.to(device) for one in shown(workflow, encoder, noises.sources, size)]
        begun = [(unit * scheduler.initial_scale(levels)).to(device) for unit in noises.units()]
        return [Start(x=x, beside={"cond": one}) for x, one in zip(begun, beside, strict=True)]
    latents = _Latents(encoder, workflow, noises, size)
    sigma, writes = levels.sigmas[0], noises.channels
    needs_picture = not workflow.fresh or (workflow.mask is not None and reads == writes)
    if workflow.denoising[0] is not None:
        scale = scheduler.latents_scale(sigma)
        return [Start(x=(latents.begun(i) / scale).to(device)) for i in range(len(noises))]
    pictures = [latents.begun(i) if needs_picture else None for i in range(len(noises))]
    units = noises.units()
    made: list[Start] = []
    for i, (picture, noise) in enumerate(zip(pictures, units, strict=True)):
        rule, beside, mask = None, None, None
        if workflow.mask is not None:
            mask = latents.mask(i)
            masked = latents.without_masked(i)  # drawn for in any case, as diffusers does
            if reads != writes:
                both = torch.cat([mask, masked]).to(device)
                beside = {"uncond": both, "cond": both}
            else:
                assert picture is not None
                kept, last = picture.to(device) / scheduler.unit, scheduler.final_scale(levels) / scheduler.unit
                rule = keep_outside(kept, noise.to(device), mask.to(device), last)
        if workflow.name == "instruct":
            seen = encoder.mode(latents.pixels(i)).to(device)
            beside = {"uncond": torch.zeros_like(seen), "image": seen, "cond": seen}
        if workflow.depth is not None:
            near = depth_latents(workflow.depth, i, noise.shape[-2:]).to(device)
            beside = {"uncond": near, "cond": near}
        if workflow.fresh or picture is None:
            x = noise * scheduler.initial_scale(levels)
        else:
            if mask is not None:
                picture = under_mask(picture, mask, workflow.content, noises.sources[i])
            x = picture / scheduler.unit + sigma * noise
        made.append(Start(x=x.to(device), at_step=rule, beside=beside))
    return made


class Noises:
    """The noise sources of a call's images, and the unit noise that they begin from: drawn, or the caller's `given`."""

    def __init__(self, sources: Sequence[NoiseSource], given: Sequence[Tensor] | None = None) -> None:
        self.sources = sources
        self._given = given

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def channels(self) -> int:
        """Channels of an image's latents."""
        return self.sources[0].shape[0]

    def units(self) -> list[Tensor]:
        """The unit noise of each image. Draws it; call it once."""
        return [source.draw() for source in self.sources] if self._given is None else list(self._given)


class _Latents:
    """The latents of a workflow's pictures, encoded once each and drawn as diffusers draws them."""

    def __init__(self, encoder: Encoder, workflow: Workflow, noises: Noises, size: tuple[int, int]) -> None:
        assert workflow.image is not None
        height, width = size
        self._encoder, self._workflow, self._noises = encoder, workflow, noises
        image, mask = workflow.image, workflow.mask
        self._grey = None if mask is None else mask.grey(width, height, workflow.mode, workflow.box)
        if workflow.mode == "latent" and not image.is_latent():
            width, height = (max(side // encoder.scale, 1) * encoder.scale for side in image.size)
        if image.is_latent():
            self._pixels = image.tensor
        else:
            self._pixels = image.pixels(width, height, workflow.mode, workflow.box, axes=encoder.axes)
        self._among = workflow.among or len(image)

    def pixels(self, i: int) -> Tensor:
        assert self._pixels is not None
        return self._pixels[i % len(self._pixels)]

    def grey(self, i: int) -> Tensor:
        assert self._grey is not None
        return self._grey[i % len(self._grey)]

    def begun(self, i: int) -> Tensor:
        """What image i begins from, without its noise."""
        image, pixels = self._workflow.image, self.pixels(i)
        height, width = self._noises.sources[i].shape[-2:]
        if image is not None and image.is_latent():
            begun = pixels.to("cpu", torch.float32)
            return self._stretched(begun, width, height) if self._workflow.mode == "latent" else begun
        if self._grey is not None:
            pixels = masked_away(pixels, self.grey(i), self._workflow.content)
        if self._workflow.mode == "latent":
            return self._stretched(self._encoder.scaled(pixels), width, height)
        return self._encoded(pixels, i)

    def _encoded(self, pixels: Tensor, i: int) -> Tensor:
        """The latents of pixels: drawn with image i's noise, as diffusers draws them; the web UI leaves all of that for the picture."""
        if self._workflow.begun_as != "diffusers":
            return self._encoder.scaled(pixels)
        return self._encoder.sampled(pixels, self._noises.sources[i].draw_shared(self._among))

    def _stretched(self, latents: Tensor, width: int, height: int) -> Tensor:
        return stretched(latents[None], width, height, self._encoder.axes)[0]

    def without_masked(self, i: int) -> Tensor:
        """The latents of the picture with what is masked in mid-grey."""
        masked = self.pixels(i) * (self.grey(i) < 0.5)
        return self._encoded(masked, i)

    def mask(self, i: int) -> Tensor:
        shape = self._noises.sources[i].shape
        return latent_mask(self.grey(i), (shape[-2], shape[-1]), soft=self._workflow.soft)


def depth_latents(depth: Pictures, index: int, size: Sequence[int]) -> Tensor:
    """A depth map `1 h w` at the latents' size, from -1 for the farthest to 1 for the nearest."""
    width, height = depth.size
    one = depth.grey(width, height)[index % len(depth)]
    near = F.interpolate(one[None], size=tuple(size), mode="bicubic", align_corners=False)[0]
    low, high = near.min(), near.max()
    return 2 * (near - low) / (high - low).clamp_min(1e-12) - 1
