"""Hires fix: a picture drawn small, where models compose well, then enlarged and drawn over at the size wanted.

The first picture is no file: the recipe of the second holds the recipe of the first, which is drawn again when it is replayed.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import torch
from PIL import Image
from torch import Tensor

from sfumato.errors import OptionError, RecipeError
from sfumato.models.convolution import NOWHERE
from sfumato.pipeline.canvas import AXES
from sfumato.pipeline.decoding import Decoder, to_bytes
from sfumato.pipeline.pictures import Pictures
from sfumato.pipeline.request import check_number, check_size
from sfumato.pipeline.resizing import resized, stretched
from sfumato.recipe import Recipe
from sfumato.schedulers import Scheduler, scheduler_for

if TYPE_CHECKING:
    from sfumato.pipeline.output import StableDiffusionPipelineOutput
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

Enlarge: TypeAlias = Literal["latent", "pixel"]
"""What is enlarged: the latents, between which is interpolated, or the picture, by Lanczos's filter."""

STRENGTH = 0.7
MOST = 16.0

_OF_PICTURES = (
    "image", "mask_image", "depth_map", "extend", "padding_mask_crop", "denoising_start", "denoising_end", "latents",
)  # fmt: skip
"""Options of a call that hires fix, which makes its picture itself, has no place for."""


def hires_fix(
    pipe: "StableDiffusionPipeline",
    prompt: str | list[str],
    *,
    scale: float = 2.0,
    enlarge: Enlarge = "latent",
    strength: float = STRENGTH,
    second_steps: int | None = None,
    second_prompt: str | list[str] | None = None,
    second_sampler: str | Scheduler | None = None,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    **options: Any,
) -> "StableDiffusionPipelineOutput":
    """Draw pictures of `height` and `width`, and draw them over at `scale` times that, which is cut to a multiple of 8.

    `strength` is that of the second pass; its steps, prompt and sampler are those of the first unless given. The sampler is given by any
    of its names, or as a scheduler. The other options are those of a call.
    Raises OptionError for a scale that is not from 1 to 16, and for options about other pictures, UnknownNameError for no sampler's name,
    and as a call.
    """
    scale = check_number("scale", scale, least=1.0, most=MOST)
    strength = check_number("strength", strength, least=0.0, most=1.0)
    if misplaced := [name for name in _OF_PICTURES if options.pop(name, None) is not None]:
        raise OptionError(
            f"hires_fix draws from words, and over what it has drawn; leave out {misplaced[0]}, or call the pipeline"
        )
    if enlarge not in get_args(Enlarge):
        raise OptionError(f"enlarge must be one of {', '.join(get_args(Enlarge))}, not {enlarge!r}")
    small = words_pipeline(pipe)
    large = small if second_sampler is None else with_sampler(small, second_sampler)
    if isinstance(second_prompt, str) and not isinstance(prompt, str):
        second_prompt = [second_prompt] * len(prompt)
    second_steps = num_inference_steps if second_steps is None else second_steps
    _check_second(large, second_steps, options.get("eta"))
    begun_as = options.pop("begun_as", None)
    if begun_as is None and options.get("compat") == "a1111":
        begun_as = "a1111_exact"
    first = small(
        prompt, height=height, width=width, num_inference_steps=num_inference_steps, output_type="latent",
        **{**options, "return_dict": True},
    )  # fmt: skip
    down, across = (int(side * pipe.vae.scale * scale) // 8 * 8 for side in first.images.shape[-2:])
    down, across = check_size(down, across, pipe.vae.scale)
    records = tuple({"recipe": json.loads(recipe.to_json()), "enlarge": enlarge} for recipe in first.recipes)
    image = enlarged(pipe, first.images, across, down, enlarge, records, first.recipes[0])
    return large(
        prompt if second_prompt is None else second_prompt,
        image=image,
        height=down,
        width=across,
        strength=strength,
        begun_as=begun_as,
        num_inference_steps=second_steps,
        output_type=output_type,
        **options,
    )


def _check_second(pipe: "StableDiffusionPipeline", steps: int | None, eta: Any) -> None:
    """Raise what the sampler of the second pass would raise for its steps and its eta, before the first one is drawn."""
    scheduler, nothing = pipe.scheduler, torch.zeros(1)
    levels = scheduler.levels(pipe.defaults.get("num_inference_steps", 50) if steps is None else steps)
    scheduler.start(
        nothing, levels, lambda: nothing, 0.0 if eta is None else check_number("eta", eta, least=0.0, most=1.0)
    )


def words_pipeline(pipe: "StableDiffusionPipeline") -> "StableDiffusionPipeline":
    """The pipeline by the class that takes words and pictures, whatever class of its kin it is."""
    from sfumato.pipeline.image_pipelines import AutoPipelineForText2Image

    return AutoPipelineForText2Image.from_pipe(pipe)


def with_sampler(pipe: "StableDiffusionPipeline", sampler: str | Scheduler) -> "StableDiffusionPipeline":
    """The same model, drawing by another sampler on its own noise schedule, or by a scheduler as it is."""
    scheduler = scheduler_for(base=pipe.scheduler, sampler=sampler) if isinstance(sampler, str) else sampler
    return type(pipe).from_pipe(pipe, scheduler=scheduler)


def enlarged(
    pipe: "StableDiffusionPipeline",
    latents: Tensor,
    width: int,
    height: int,
    enlarge: str,
    records: tuple[Mapping[str, Any], ...],
    first: Recipe,
) -> Pictures:
    """Latents `n c h w`, drawn as the recipe of the `first` says, or the pictures they are, in another size of pixels."""
    axes = NOWHERE if first.seamless is None else AXES[first.seamless]
    if enlarge == "latent":
        scale = pipe.vae.scale
        larger = stretched(latents.to("cpu", torch.float32), width // scale, height // scale, axes)
        return Pictures(tensor=larger, records=records)
    decoder = Decoder(pipe.vae, tiled=first.vae_tiling, axes=axes)
    images = [Image.fromarray(to_bytes(decoder.pixels(one))) for one in latents]
    return Pictures(images=tuple(resized(one, width, height, axes=axes) for one in images), records=records)


def made_again(
    pipe: "StableDiffusionPipeline", recipe: Recipe, draw: Callable[[Recipe], Tensor]
) -> dict[str, Pictures]:
    """The pictures among a recipe's inputs that are themselves made from a recipe. `draw` gives the latents of one.

    Raises RecipeError for a recipe that can't be, or that is made from another picture in turn.
    """
    made: dict[str, Pictures] = {}
    for role, record in recipe.inputs.items():
        values: object = record.get("recipe") if isinstance(record, Mapping) else None
        if values is None:
            continue
        first = Recipe.from_dict(cast("Mapping[str, Any]", values) if isinstance(values, Mapping) else {})
        enlarge = str(record.get("enlarge"))
        if first.inputs or enlarge not in get_args(Enlarge):
            raise RecipeError(
                f"the recipe's {role} is made in a way that is unknown; a newer Sfumato may have written it"
            )
        latents = draw(first)
        made[role] = enlarged(
            pipe, latents, recipe.width, recipe.height, enlarge, ({"recipe": dict(values), "enlarge": enlarge},), first
        )
    return made
