"""Making an image again from its recipe, and judging whether it is the same one."""

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from PIL import Image

from sfumato.errors import RecipeError
from sfumato.pipeline.noise_options import noise_rules_of
from sfumato.pipeline.output import StableDiffusionPipelineOutput
from sfumato.pipeline.randomness import Seed
from sfumato.recipe import Recipe, UsedAdapter


@dataclass(frozen=True, slots=True, eq=False)
class ReplayResult:
    """A replayed image, its own recipe, whether it is bit-identical to the original, and what differs between the two.

    `differences` names every difference in what made them (versions, model, device …), also when the pictures are equal.
    """

    image: Image.Image
    recipe: Recipe
    identical: bool
    differences: list[str]


def replay(recipe: Recipe, draw: Callable[[Seed], StableDiffusionPipelineOutput]) -> ReplayResult:
    """Make a recipe's image again by `draw`, from the recipe's own noise, and compare.

    Raises RecipeError for an image that was shaped by something no recipe can hold.
    """
    result = draw(seed_of(recipe))
    made = result.recipes[0]
    identical = recipe.pixels_sha256 is not None and made.pixels_sha256 == recipe.pixels_sha256
    return ReplayResult(result.images[0], made, identical, _differences(recipe, made))


def seed_of(recipe: Recipe) -> Seed:
    """The recipe's own noise. Raises RecipeError for an image that was shaped by something no recipe can hold."""
    if recipe.unrecorded is not None or recipe.seed is None or recipe.prompt is None:
        why = recipe.unrecorded or "its noise or prompt is not recorded"
        raise RecipeError(f"this image can't be made again from its recipe: {why}")
    state = None if recipe.noise_state is None else base64.b64decode(recipe.noise_state)
    return Seed(
        seed=recipe.seed,
        index=recipe.noise_index,
        count=recipe.noise_count,
        state=state,
        rules=noise_rules_of(recipe),
    )


def autocast_as(dtype: str | None, device: str) -> AbstractContextManager[object]:
    """The autocast that was on when an image was made, for the device type it is made on now; none for None."""
    if dtype is None:
        return torch.autocast(device, enabled=False)
    if dtype not in ("float16", "bfloat16"):
        raise RecipeError(f"the recipe's autocast is {dtype!r}; expected 'float16' or 'bfloat16'")
    return torch.autocast(device, dtype=getattr(torch, dtype))


def _differences(was: Recipe, now: Recipe) -> list[str]:
    found: list[str] = []
    if was.model_sha256 != now.model_sha256:
        found.append(
            f"the model: made with {was.model} ({_short(was.model_sha256)}), now {now.model} ({_short(now.model_sha256)})"
        )
    if _unnamed(was) != _unnamed(now):
        found.append(f"the adapters: {_named(was)} then, {_named(now)} now")
    for role in sorted({*was.inputs, *now.inputs}):
        before, after = (dict(recipe.inputs.get(role) or {}).get("sha256") for recipe in (was, now))
        if before != after:
            found.append(f"{role}: the picture {_short(before)} then, {_short(after)} now")
    for name in (
        "dtype", "vae_dtype", "text_encoder_dtype", "weights_dtype", "int8", "autocast", "device", "engine", "safety",
    ):  # fmt: skip
        own = name in ("vae_dtype", "text_encoder_dtype", "weights_dtype")  # unset, they are the U-Net's
        before, after = (getattr(recipe, name) or (recipe.dtype if own else None) for recipe in (was, now))
        if before != after:
            found.append(f"{name}: {before} then, {after} now")
    if not was.exact:
        found.append("rows of several images shared a batch then, evaluated alone now")
    current = now.versions
    for name in sorted({*was.versions, *current}):
        before, after = was.versions.get(name, "unknown"), current.get(name, "unknown")
        if before != after:
            found.append(f"{name}: {before} then, {after} now")
    return found


def _unnamed(recipe: Recipe) -> list[UsedAdapter]:
    """The adapters by their hashes alone, where they have one: a file may be renamed."""
    return [replace(used, file="" if used.sha256 else used.file) for used in recipe.adapters]


def _named(recipe: Recipe) -> str:
    return ", ".join(f"{used.file} ({_short(used.sha256)})" for used in recipe.adapters) or "none"


def _short(digest: str | None) -> str:
    return "unknown" if not digest else digest[:10]
