"""A recipe out of another program's settings: what it says, on the model of a pipeline, and what could not be carried over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.adapters import Adapter
from sfumato.errors import RecipeError, UsageError
from sfumato.metadata import Omission, Settings
from sfumato.metadata.settings import Program
from sfumato.pipeline.adapter_recipe import hash_of
from sfumato.pipeline.canvas import check_wraps
from sfumato.pipeline.compat import HABITS, Compat
from sfumato.pipeline.guidance_options import GuidanceOptions, Usual
from sfumato.pipeline.request import MULTIPLE
from sfumato.pipeline.result import name_of, versions
from sfumato.recipe import Emphasis, Recipe, Seamless, UsedAdapter
from sfumato.schedulers import Scheduler, scheduler_from_settings

if TYPE_CHECKING:
    from sfumato.pipeline.pipeline import StableDiffusionPipeline

AS: Mapping[Program, Compat] = {
    "AUTOMATIC1111": "a1111", "ComfyUI": "a1111", "NovelAI": "a1111", "InvokeAI": "diffusers",
}  # fmt: skip
"""Whose rounding a program has: InvokeAI is built on diffusers."""

_NOVELAI_MARKS = re.compile(r"[{}\[\]|]|::")
"""Marks that weigh words at NovelAI, whose words no mode of emphasis reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignRecipe:
    """A recipe of another program's picture, and all that it does not carry over from there."""

    recipe: Recipe
    omissions: tuple[Omission, ...]


def recipe_from(settings: Settings, pipe: "StableDiffusionPipeline") -> ForeignRecipe:
    """The recipe that comes nearest to the settings, on the pipeline's model with the LoRAs that are loaded into it.

    It holds no hash of pixels: what was drawn there can't come out here to the bit. What is not said is the model's own, and named.
    Raises RecipeError for settings without a prompt.
    """
    if settings.prompt is None:
        raise RecipeError(f"the picture's settings of {settings.program} hold no prompt, so it can't be drawn again")
    omissions = list(settings.omissions)

    def own(name: str, found: Any, usual: Any) -> Any:
        if found is None:
            omissions.append(Omission(name=name, value="", why=f"it is not told; {usual} is taken"))
        return usual if found is None else found

    defaults, side = pipe.defaults, pipe.unet.config.sample_size * pipe.vae.scale
    scheduler, named = scheduler_from_settings(pipe.scheduler, settings)
    omissions += named
    width, height = (
        _side(name, own(name, found, defaults.get(name, side)), omissions)
        for name, found in (("width", settings.width), ("height", settings.height))
    )
    emphasis = _emphasis(settings, omissions)
    skip = settings.clip_skip or 0
    if skip >= pipe.text_encoder.config.layers:
        omissions.append(Omission(name="clip skip", value=str(skip), why="the model's text encoder has no such layer"))
        skip = 0
    steps = own("steps", settings.steps, defaults.get("num_inference_steps", 50))
    recipe = Recipe(
        prompt=settings.prompt,
        negative_prompt=settings.negative_prompt,
        seed=own("seed", settings.seed, 0),
        noise_index=settings.noise_index,
        noise_count=settings.noise_count,
        rng=settings.rng,
        subseed=settings.subseed,
        subseed_strength=settings.subseed_strength,
        seed_resize=settings.seed_resize,
        eta_noise_seed_delta=settings.eta_noise_seed_delta,
        sampler=scheduler.sampler,
        scheduler=dict(scheduler.config),
        steps=steps,
        guidance_scale=own("guidance scale", settings.guidance_scale, defaults.get("guidance_scale", 7.5)),
        guidance=_guidance(settings, pipe, scheduler, steps, omissions),
        eta=settings.eta,
        width=width,
        height=height,
        seamless=_seamless(settings, pipe, width, height, omissions),
        clip_skip=skip or None,
        emphasis=emphasis,
        rounding=HABITS[AS[settings.program]].rounding,
        dtype=name_of(pipe.dtype),
        device=pipe.device.type,
        model=settings.model or "",
        versions=versions(pipe.device.type),
        adapters=_adapters(settings, pipe, omissions),
        safety_mode=None if pipe.safety_checker is None else pipe.safety_mode,
    )
    return ForeignRecipe(recipe=recipe, omissions=tuple(omissions))


def _guidance(
    settings: Settings, pipe: "StableDiffusionPipeline", scheduler: Scheduler, steps: int, omissions: list[Omission]
) -> dict[str, Any]:
    """What is asked of guidance beside the scale, as far as this model and sampler have it."""
    try:
        options = GuidanceOptions.taken_from(dict(settings.guidance), pipe.unet, Usual())
        options.of_run(scheduler.levels(steps), unconditioned=scheduler.unconditioned)
    except UsageError as error:
        omissions.extend(
            Omission(name=name, value=str(value), why=str(error)) for name, value in settings.guidance.items()
        )
        return {}
    return options.recorded()


def _emphasis(settings: Settings, omissions: list[Omission]) -> Emphasis:
    """In whose words the prompts are read: the program's, if they can be."""
    if settings.emphasis != "novelai":
        return settings.emphasis
    mark = _NOVELAI_MARKS.search(settings.prompt or "") or _NOVELAI_MARKS.search(settings.negative_prompt)
    if mark is not None:
        why = "NovelAI's marks that weigh words are read as text, like any other"
        omissions.append(Omission(name="emphasis", value=mark[0], why=why))
    return "none"


def _side(name: str, side: int, omissions: list[Omission]) -> int:
    """A side that can be drawn."""
    possible = max(MULTIPLE, side // MULTIPLE * MULTIPLE)
    if possible != side:
        omissions.append(
            Omission(name=name, value=str(side), why=f"sides are multiples of {MULTIPLE}; {possible} is taken")
        )
    return possible


def _seamless(
    settings: Settings, pipe: "StableDiffusionPipeline", width: int, height: int, omissions: list[Omission]
) -> Seamless | None:
    """Whether it wraps, if it can at that size on that model."""
    if not settings.seamless:
        return None
    try:
        check_wraps("both", pipe, width, height)
    except UsageError as error:
        omissions.append(Omission(name="Tiling", value="True", why=str(error)))
        return None
    return "both"


def _adapters(
    settings: Settings, pipe: "StableDiffusionPipeline", omissions: list[Omission]
) -> tuple[UsedAdapter, ...]:
    """The LoRAs that are loaded and named, with their weights there; each that is not loaded is named."""
    loaded = {_plain(adapter.file): adapter for adapter in pipe._adapters.by_name.values()}
    used: list[UsedAdapter] = []
    for lora in settings.loras:
        found = loaded.get(_plain(lora.name))
        if found is None:
            said = f"{lora.name} ({lora.weight:g})"
            omissions.append(Omission(name="LoRA", value=said, why="it is not here; pass --lora FILE"))
            continue
        used.append(_used(found, lora.weight, lora.text_weight))
    return tuple(used)


def _used(adapter: Adapter, weight: float, text_weight: float) -> UsedAdapter:
    weights = {name: weight if name == "unet" else text_weight for name in adapter.changes}
    return UsedAdapter(file=adapter.file, sha256=hash_of(adapter), weights=weights)


def _plain(file: str) -> str:
    """A file's name as programs tell LoRAs apart: without its suffix, in small letters."""
    return re.sub(r"\.(safetensors|sft|ckpt|pt|pth|bin)$", "", file.strip(), flags=re.IGNORECASE).lower()
