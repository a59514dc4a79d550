"""What a run made, as its caller gets it: pictures with their recipes, in the form that was asked for."""

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch

from sfumato import native
from sfumato.images import to_pil
from sfumato.models.network import computed_in
from sfumato.models.quantising import possible, quantisation_of
from sfumato.pipeline.adapter_recipe import Uses, hashed
from sfumato.pipeline.canvas import canvas_of
from sfumato.pipeline.decoding import to_unit
from sfumato.pipeline.evaluating import engine_versions
from sfumato.pipeline.fast_options import fast_of, recorded
from sfumato.pipeline.guidance_options import options_of
from sfumato.pipeline.noise_options import noise_fields
from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.picture import Picture
from sfumato.pipeline.randomness import Seed
from sfumato.pipeline.request import Request
from sfumato.pipeline.source import Origin
from sfumato.pipeline.text_to_image import Outcome, Parts
from sfumato.recipe import Recipe, pixels_sha256
from sfumato.version import __version__

logger = logging.getLogger("sfumato")


def result_of(
    request: Request,
    parts: Parts,
    outcomes: Sequence[Outcome],
    seeds: Sequence[Seed | None],
    origin: Origin,
    *,
    output_type: str,
    dtypes: Mapping[str, str],
    weights_dtype: str | None,
    uses: Uses,
    unrecorded: Sequence[str],
    notes: list[str],
) -> StableDiffusionPipelineOutput:
    """Pack the outcomes, give each picture its recipe, and say what has to be said. Raises the first error if all failed."""
    errors = {i: outcome.error for i, outcome in enumerate(outcomes) if outcome.error is not None}
    if len(errors) == len(outcomes):
        raise errors[0]
    makers: list[Callable[[], Recipe]] = []
    pictures: list[Any] = []
    for i, (outcome, seed) in enumerate(zip(outcomes, seeds, strict=True)):
        recipe = recipe_of(
            request, i, parts, seed, outcome,
            model=origin.name, dtypes=dtypes, weights_dtype=weights_dtype, unrecorded=unrecorded,
        )  # fmt: skip
        # The hash of a large model takes seconds. It is taken once, when somebody asks for a recipe or saves a picture.
        make = cache(partial(_hashed, recipe, origin, uses))
        makers.append(make)
        picture = outcome.picture
        pictures.append(None if picture is None else Picture.of(to_pil(picture), make))
        notes += [f"image {i + 1}: {note}" for note in outcome.notes]
    notes += [f"image {i + 1} failed: {error}" for i, error in errors.items()]
    for note in notes:
        logger.warning("%s", note)
    verdicts = [outcome.verdict for outcome in outcomes]
    judged = any(verdicts)
    return StableDiffusionPipelineOutput(
        pack(outcomes, output_type, pictures),
        [verdict is not None and verdict.flagged for verdict in verdicts] if judged else None,
        makers,
        notes,
        errors,
        [dict(verdict.scores) if verdict else {} for verdict in verdicts] if judged else None,
    )


def _hashed(recipe: Recipe, origin: Origin, uses: Uses) -> Recipe:
    return replace(recipe, model_sha256=origin.sha256, adapters=hashed(uses))


def pack(outcomes: Sequence[Outcome], output_type: str, pictures: Sequence[object]) -> object:
    """The images in the form `output_type` asks for: a list of PIL images, an `n h w 3` array, an `n 3 h w` tensor or latents.

    Raises the error of the first image that failed where the form has no place for a missing one.
    """
    if output_type == "pil":
        return list(pictures)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    if output_type == "latent":
        return torch.stack([o.latents for o in outcomes if o.latents is not None])
    pixels = to_unit(torch.stack([o.pixels for o in outcomes if o.pixels is not None]))
    return pixels if output_type == "pt" else pixels.permute(0, 2, 3, 1).numpy()


def recipe_of(
    request: Request,
    index: int,
    parts: Parts,
    seed: Seed | None,
    outcome: Outcome,
    *,
    model: str,
    dtypes: Mapping[str, str],
    weights_dtype: str | None,
    unrecorded: Sequence[str],
) -> Recipe:
    """The recipe of image `index`, all but the hashes of model and adapters, and these, which take long and can be had later.

    `seed` is None where the caller gave the latents. `weights_dtype` is
    the narrower one that the weights had been rounded to before. `dtypes` are those of the text encoder and VAE where they differ from the U-Net's; `unrecorded` says what else shaped
    the image.
    """
    text = request.texts[index // request.images_per_prompt]
    device = parts.unet.device.type
    picture = outcome.picture
    return Recipe(
        prompt=text.prompt,
        negative_prompt=text.negative,
        seed=None if seed is None else seed.seed,
        noise_index=0 if seed is None else seed.index,
        noise_count=1 if seed is None else seed.count,
        noise_state=None if seed is None else seed.state_text,
        **({} if seed is None else noise_fields(seed.rules)),
        sampler=parts.scheduler.sampler,
        scheduler=dict(parts.scheduler.config),
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        guidance=options_of(request).recorded(),
        fast={**recorded(fast_of(request)), **parts.decoder.recorded},
        eta=request.eta,
        width=request.width,
        height=request.height,
        **canvas_of(request).recorded(),
        clip_skip=request.clip_skip,
        emphasis=request.emphasis,
        **({} if request.workflow is None else request.workflow.recorded(index)),
        told={} if request.beside is None else request.beside.recorded(text, (request.height, request.width)),
        dtype=name_of(parts.unet.dtype),
        vae_dtype=dtypes.get("vae"),
        text_encoder_dtype=dtypes.get("text_encoder"),
        weights_dtype=weights_dtype,
        autocast=name_of(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None,
        int8=possible(int8).name if (int8 := quantisation_of(parts.unet)) is not None else None,
        engine=parts.evaluation.name,
        attention_slicing=parts.attention_slicing,
        vae_tiling=parts.decoder.tiled,
        vae_tile=parts.decoder.tile,
        rows_apart=parts.economy.measures.rows_apart,
        device=device,
        model=model,
        **judgement(parts, outcome),
        exact=parts.exact or device == "cpu",
        rounding=request.rounding,
        versions=versions(device) | engine_versions(parts.evaluation.name),
        pixels_sha256=None if picture is None else pixels_sha256(picture),
        unrecorded="; ".join(unrecorded) or None,
    )


def judgement(parts: Parts, outcome: Outcome) -> dict[str, Any]:
    """What a recipe says of its picture's safety: nothing where nothing judged."""
    verdict = outcome.verdict
    if verdict is None or parts.safety is None:
        return {}
    return {
        "safety": "flagged" if verdict.flagged else "passed",
        "safety_by": verdict.by,
        "safety_mode": parts.safety.mode,
        "safety_threshold": verdict.threshold,
        "safety_scores": verdict.scores,
    }


def dtypes_of(networks: Mapping[str, torch.nn.Module]) -> dict[str, str]:
    """The dtypes of the networks that differ from the U-Net's, by name; a second text encoder goes by the name of the first."""
    dtypes = {name.removesuffix("_2"): computed_in(network) for name, network in networks.items()}
    return {name: name_of(dtype) for name, dtype in dtypes.items() if dtype != dtypes["unet"]}


def name_of(dtype: torch.dtype) -> str:
    """A dtype as people write it: "float32"."""
    return str(dtype).removeprefix("torch.")


def versions(device: str) -> dict[str, str]:
    """What computed an image on a device of that type, as far as it is known to change the last bit.

    Package versions; the processor's kind, its vector instructions and the threads; our kernels, if they are in use; for CUDA the card,
    cuDNN and how float32 products are rounded.
    """
    known = {
        "sfumato": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
    }
    if device == "cpu" and (kernels := native.serving()) is not None:
        known["kernels"] = kernels
    if device == "cuda":
        known |= {
            "gpu": torch.cuda.get_device_name(),
            "cudnn": str(torch.backends.cudnn.version()),
            "float32 products": torch.get_float32_matmul_precision(),
        }
    return known
