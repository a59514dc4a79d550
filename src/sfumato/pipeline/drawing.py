"""A checked request being carried out, and a recipe's picture made again: what a pipeline does once it is called.

Apart from `pipeline.pipeline`, so that a program which only imports the pipeline does not wait for what draws.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.checkpoints.families import is_told_guidance
from sfumato.diffusion.noise import NoiseSource
from sfumato.engine import Event
from sfumato.engine.memory import Economy
from sfumato.models.convolution import NOWHERE, Axes
from sfumato.pipeline.adapter_recipe import uses_of
from sfumato.pipeline.callbacks import StepCallback
from sfumato.pipeline.canvas import CanvasOptions, canvas_of
from sfumato.pipeline.decoding import Decoder
from sfumato.pipeline.encoding import Encoder
from sfumato.pipeline.fast_options import fast_notes, fast_of_recipe
from sfumato.pipeline.guidance_options import GuidanceOptions, options_of
from sfumato.pipeline.image_to_image import Noises, levels_of
from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.randomness import Seed
from sfumato.pipeline.replay import autocast_as
from sfumato.pipeline.request import Request
from sfumato.pipeline.result import dtypes_of, result_of
from sfumato.pipeline.safety import SafetyFilter
from sfumato.pipeline.safety_choice import judge_of
from sfumato.pipeline.text_to_image import Parts, latent_shape, run, starts_of, steps_ahead, unit_noise
from sfumato.pipeline.together import Results, Work
from sfumato.pipeline.workflow import Asked, is_recordable
from sfumato.recipe import Recipe
from sfumato.schedulers import scheduler_from_config

if TYPE_CHECKING:
    from sfumato.pipeline.pipeline import StableDiffusionPipeline


def drawing(
    pipe: "StableDiffusionPipeline",
    request: Request,
    seeds: Sequence[Seed],
    *,
    embeds: tuple[Tensor | None, Tensor | None] = (None, None),
    latents: Tensor | None = None,
    output_type: str = "pil",
    exact: bool = False,
    on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
    tensor_inputs: Sequence[str] = (),
    on_event: Callable[[Event], None] | None = None,
    adapters: ActiveAdapters = NO_ADAPTERS,
) -> Generator[Work, Results, tuple[StableDiffusionPipelineOutput, list[NoiseSource]]]:
    """A checked request being carried out: yields its work, and returns the output and the noise sources once that is done."""
    notes = [*pipe._settle_precision(), *pipe._int8_notes(), *pipe.scheduler.notes, *fast_notes(request)]
    notes += options_of(request).notes(1.0 if is_told_guidance(pipe.unet.config) else request.guidance_scale)
    rows, words_notes = pipe._rows(request, embeds, adapters)
    rows = [row for row in rows for _ in range(request.images_per_prompt)]
    economy = pipe._economy(
        request.height, request.width, max(len(row.first) for row in rows), image=request.workflow is not None
    )
    parts = _parts(pipe, adapters, economy, exact=exact, axes=canvas_of(request).axes)
    guided = any("uncond" in row.first for row in rows)

    shape = latent_shape(request, parts)
    sources = [seed.source(shape, pipe.vae.scale) for seed in seeds]
    levels = levels_of(pipe.scheduler, request.steps, request.workflow)
    starts = starts_of(request, parts, levels, Noises(sources, unit_noise(latents, len(seeds), shape)))

    on_round = None
    if on_step_end is not None:
        on_round = StepCallback(
            pipe, on_step_end, tensor_inputs, scheduler=pipe.scheduler, levels=levels, rows=[row.first for row in rows]
        )  # fmt: skip
    pipe._interrupt = False
    outcomes = yield from run(
        request, parts, rows, starts, sources, levels=levels, latents_only=output_type == "latent",
        bar=pipe.progress_bar(total=steps_ahead(pipe.scheduler, levels)), on_round=on_round, on_event=on_event,
        interrupted=lambda: pipe._interrupt,
    )  # fmt: skip
    texts = [text for each in request.texts for text in each.read(guided=guided)]
    uses = uses_of(adapters, pipe._merged(), pipe._embeddings_in(texts))
    unrecorded = [
        why
        for why, true in (
            ("it began from latents that its caller supplied", latents is not None),
            ("it began from a picture that was given as a tensor", not is_recordable(request.workflow)),
            ("its prompt was given as embeddings", embeds[0] is not None),
            ("its negative prompt was given as embeddings", guided and embeds[1] is not None),
            ("a callback changed its latents", on_round is not None and on_round.changed),
            ("it used adapters that lie in no file", any(thing.files is None for _, thing in uses)),
            ("its text encoders were of two dtypes", len({one.dtype for one in pipe._encoders().values()}) > 1),
            ("the run was interrupted", pipe._interrupt),
            ("memory ran out while it was drawn", economy.went_down),
        )
        if true
    ]
    networks: dict[str, torch.nn.Module] = {"unet": pipe.unet, "vae": pipe.vae, **pipe._encoders()}
    result = result_of(
        request, parts, outcomes, [None] * len(seeds) if latents is not None else seeds, pipe.source.now(**networks),
        output_type=output_type, dtypes=dtypes_of(networks), weights_dtype=pipe.source.rounded_to(pipe.unet.dtype),
        uses=uses, unrecorded=unrecorded, notes=[*notes, *words_notes, *parts.evaluation.notes, *economy.notes],
    )  # fmt: skip
    return result, sources


def draw_recipe(
    pipe: "StableDiffusionPipeline", recipe: Recipe, seed: Seed, asked: Asked, *, output_type: str = "pil"
) -> StableDiffusionPipelineOutput:
    """The one picture of a recipe, with its own scheduler and switches, its rows evaluated alone."""
    again = copy(pipe)
    again.scheduler = scheduler_from_config(recipe.scheduler)
    again._tiled, again._measures = recipe.vae_tiling, again._measures_of(recipe)
    again._tiny = pipe._tiny_of(recipe)
    again._evaluated_as(recipe)
    again.safety_checker, again.safety_mode = judge_of(recipe, pipe.safety_checker), recipe.safety_mode or "block"
    request = again._request(
        recipe.prompt, recipe.negative_prompt, None, None, recipe.height, recipe.width,
        recipe.steps, recipe.guidance_scale, 1, recipe.eta, recipe.clip_skip, recipe.emphasis, pipe._told_again(recipe), asked,
    )  # fmt: skip
    guidance = GuidanceOptions.of_recipe(recipe, pipe.unet)
    request = replace(request, guidance=guidance, rounding=recipe.rounding, fast=fast_of_recipe(recipe))
    request = CanvasOptions.of(recipe).on(request, again)
    sliced = pipe.unet.attention_slicing
    pipe.unet.set_attention_slicing(recipe.attention_slicing)
    try:
        with (
            autocast_as(recipe.autocast, pipe.device.type),
            pipe._int8_of(recipe),
            pipe._adapters_of(recipe) as adapters,
        ):
            return again._draw(request, [seed], exact=True, adapters=adapters, output_type=output_type)[0]
    finally:
        pipe.unet.set_attention_slicing(sliced)


def _parts(
    pipe: "StableDiffusionPipeline", adapters: ActiveAdapters, economy: Economy, *, exact: bool, axes: Axes = NOWHERE
) -> Parts:
    safety = None
    if pipe.safety_checker is not None:
        safety = SafetyFilter(pipe.safety_checker, pipe.feature_extractor, pipe.safety_mode)
    tiled = pipe.vae.use_tiling if pipe._tiled is None else pipe._tiled
    return Parts(
        unet=pipe.unet,
        decoder=Decoder(
            pipe._decodes(),
            tiled=tiled,
            axes=axes,
            economy=economy,
            recorded=pipe._tiny and pipe._tiny.recorded(),
            evaluation=pipe._new_evaluation(),
        ),
        encoder=Encoder(pipe.vae, tiled=tiled, axes=axes),
        vae_scale=pipe.vae.scale,
        scheduler=pipe.scheduler,
        safety=safety,
        attention_slicing=pipe.unet.attention_slicing,
        exact=exact,
        adapters=adapters,
        economy=economy,
    )
