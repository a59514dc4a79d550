"""From a checked request to pictures, through conditioning, the engine, the decoder and the filter."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.diffusion.conversation import NoisePath
from sfumato.diffusion.guidance import Guidance, PictureGuidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.spacing import Levels
from sfumato.engine import Engine, Event, ImageDone, Job, evaluating
from sfumato.engine.evaluators import Evaluation
from sfumato.engine.memory import Economy
from sfumato.errors import SfumatoError, SizeError
from sfumato.images import to_pil
from sfumato.models.unet import UNet
from sfumato.pipeline.canvas import canvas_of
from sfumato.pipeline.decoding import Decoder, to_bytes
from sfumato.pipeline.drive import Bar, Round
from sfumato.pipeline.encoding import Encoder
from sfumato.pipeline.fast_options import check_fast, fast_of
from sfumato.pipeline.guidance_options import options_of
from sfumato.pipeline.image_to_image import Noises, Start, starts
from sfumato.pipeline.prompt_rows import Rows
from sfumato.pipeline.request import Request
from sfumato.pipeline.safety import SafetyFilter, Verdict
from sfumato.pipeline.together import Results, Work
from sfumato.pipeline.upscaling import asked_by
from sfumato.recipe import Rounding
from sfumato.schedulers import Scheduler


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The loaded pieces that one run needs."""

    unet: UNet
    decoder: Decoder
    encoder: Encoder
    vae_scale: int
    scheduler: Scheduler
    safety: SafetyFilter | None
    attention_slicing: int | None
    exact: bool
    adapters: ActiveAdapters = NO_ADAPTERS
    economy: Economy = field(default_factory=Economy)

    @property
    def evaluation(self) -> Evaluation:
        """What evaluates the U-Net, and the decoder."""
        return self.decoder.evaluation


@dataclass(slots=True)
class Outcome:
    """What became of one image: its latents, and its pixels, rounded so to 8 bits, unless latents were all that was wanted."""

    latents: Tensor | None = None
    pixels: Tensor | None = None
    verdict: Verdict | None = None
    error: SfumatoError | None = None
    rounding: Rounding = "nearest"
    notes: list[str] = field(default_factory=list)

    @property
    def picture(self) -> np.ndarray | None:
        """`h w 3` uint8."""
        return None if self.pixels is None else to_bytes(self.pixels, self.rounding)


def latent_shape(request: Request, parts: Parts) -> tuple[int, int, int]:
    """Channels, height and width of one image's latents."""
    return (
        parts.unet.config.latent_channels,
        request.height // parts.vae_scale,
        request.width // parts.vae_scale,
    )


def steps_ahead(scheduler: Scheduler, levels: Levels) -> float:
    """How many steps a progress bar is to count; infinity, which tqdm reads so, where the sampler finds out on the way."""
    steps = scheduler.steps_of(levels)
    return math.inf if steps is None else steps


def unit_noise(latents: Tensor | None, images: int, shape: tuple[int, ...]) -> list[Tensor] | None:
    """The unit noise each image starts from where it is the caller's `latents`, float32 on the CPU; None where it is to be drawn.

    Raises SizeError unless given latents have one row an image and the request's shape.
    """
    if latents is None:
        return None
    expected = (images, *shape)
    if tuple(latents.shape) != expected:
        raise SizeError(f"latents must have the shape {expected} for this call, not {tuple(latents.shape)}")
    return list(latents.detach().to("cpu", torch.float32))


def starts_of(request: Request, parts: Parts, levels: Levels, noises: Noises) -> list[Start]:
    """Where each image of the request begins."""
    with evaluating("the noise"):
        return starts(
            request.workflow, parts.encoder, parts.scheduler, levels, noises,
            size=(request.height, request.width), reads=parts.unet.config.in_channels, device=parts.unet.device,
        )  # fmt: skip


def run(
    request: Request,
    parts: Parts,
    conditionings: Sequence[Rows],
    begun: Sequence[Start],
    sources: Sequence[NoiseSource],
    *,
    levels: Levels,
    latents_only: bool,
    bar: AbstractContextManager[Bar],
    on_round: Round | None = None,
    on_event: Callable[[Event], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Generator[Work, Results, list[Outcome]]:
    """Make every image of the request, once its work is done. One image's failure is in its outcome and leaves the others alone."""
    jobs = [
        _job(request, parts, levels, rows, start, source)
        for rows, start, source in zip(conditionings, begun, sources, strict=True)
    ]
    final = parts.scheduler.final_scale(levels)

    def preview(denoised: Tensor) -> object:
        return to_pil(to_bytes(parts.decoder.pixels(denoised * parts.scheduler.unit)))

    results = yield Work(
        jobs=jobs,
        engine=lambda: Engine(
            parts.unet, exact=parts.exact, decode=preview, economy=parts.economy, evaluation=parts.evaluation
        ),
        bar=bar,
        on_round=on_round,
        on_event=on_event,
        interrupted=interrupted,
    )
    paste = None if request.workflow is None else request.workflow.paste
    pasting = [None if paste is None else partial(paste, index=index) for index in range(len(results))]
    return [
        _finish(result, final, parts, paste, request.rounding, latents_only=latents_only)
        for result, paste in zip(results, pasting, strict=True)
    ]


def _job(
    request: Request,
    parts: Parts,
    levels: Levels,
    rows: Rows,
    start: Start,
    source: NoiseSource,
) -> Job:
    check_fast(request, parts.unet)
    x = start.x
    timestep, prediction = asked_by(parts.unet.config, parts.scheduler, levels)

    def path(low: float, high: float, seed: int | None) -> NoisePath:
        on_cpu = source.path(low, high, seed)
        return lambda sigma, sigma_next: on_cpu(sigma, sigma_next).to(x.device)

    return Job(
        sampling=parts.scheduler.start(x, levels, lambda: source.draw().to(x.device), eta=request.eta, path=path),
        steps=parts.scheduler.steps_of(levels),
        conditionings=rows.first,
        changes=rows.changes,
        guidance=guidance_of(request, parts, rows.weights, levels),
        timestep=timestep,
        prediction=prediction,
        adapters=parts.adapters,
        beside=start.beside,
        freeu=options_of(request).freeu,
        at_step=start.at_step,
        windows=canvas_of(request).windows(parts.vae_scale),
        wraps=canvas_of(request).axes,
        fast=fast_of(request),
    )


def guidance_of(request: Request, parts: Parts, weights: tuple[float, ...], levels: Levels) -> Guidance:
    """The guidance of the request: by its prompts, in parts of those weights, and where a picture is edited, by that as well.

    Raises OptionError for options that are not for a run on these levels.
    """
    # A network that is told its guidance scale answers as if guided.
    scale = 1.0 if parts.unet.config.guidance_width is not None else request.guidance_scale
    unconditioned = parts.scheduler.unconditioned
    options = options_of(request).of_run(levels, unconditioned=unconditioned)
    if request.workflow is not None and request.workflow.name == "instruct" and scale > 1:
        image_scale = request.workflow.image_guidance
        if image_scale >= 1:
            return PictureGuidance(
                scale=scale, image_scale=image_scale, unconditioned=unconditioned, weights=weights, **options
            )
        scale = 1.0  # below 1 there is no guidance at all, as in diffusers
    return Guidance(scale=scale, unconditioned=unconditioned, weights=weights, **options)


def _finish(
    result: ImageDone | SfumatoError,
    scale: float,
    parts: Parts,
    paste: Callable[[Tensor], Tensor] | None,
    rounding: Rounding,
    *,
    latents_only: bool,
) -> Outcome:
    if isinstance(result, SfumatoError):
        return Outcome(error=result)
    outcome = Outcome(latents=result.x * scale, rounding=rounding, notes=list(result.notes))
    if latents_only:
        return outcome
    try:
        parts.economy.next_stage()
        with evaluating("the picture"):
            painted = parts.decoder.pixels(result.x * scale)
            outcome.pixels = painted if paste is None else paste(painted)
        if parts.decoder.widened:
            outcome.notes.append("its autoencoder overflowed in float16, and was computed in float32 instead")
        if parts.safety is not None:
            with evaluating("the safety check"):
                outcome.verdict = parts.safety(to_bytes(outcome.pixels))
                if outcome.verdict.flagged:
                    outcome.pixels = parts.safety.keep_back(outcome.pixels)
                    outcome.notes.append(parts.safety.note(outcome.verdict))
    except SfumatoError as error:
        return Outcome(error=error)
    return outcome
