"""What models of SDXL are told beside a prompt, as options of a call say it: a second prompt, and the sizes of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.errors import OptionError, PromptError, RecipeError
from sfumato.models import AnyUNetConfig, LatentUpscalerConfig
from sfumato.models.unet import Told
from sfumato.pipeline.request import Text, check_number, check_tensor, strings, whole

Pair = tuple[int, int]
PROMPTS = ("prompt_2", "negative_prompt_2")
SIZES = ("original_size", "crops_coords_top_left", "target_size")
NUMBERS = (
    *SIZES, *(f"negative_{name}" for name in SIZES), "aesthetic_score", "negative_aesthetic_score",
)  # fmt: skip
POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
OPTIONS = (*PROMPTS, *POOLED, *NUMBERS)
"""The options of a call that only models of SDXL have."""

ZEROS = "zeros"
"""What a recipe says, beside these options, of a picture for which no negative prompt was a text of zeros."""

# Source: diffusers' pipeline for the refiner, whose training pictures had such scores.
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5
MOST = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What a picture is said to be, in pixels, height before width; Podell et al. 2023, arXiv:2307.01952, section 2.2.

    original_size          of the picture that it was cut from
    crops_coords_top_left  where it was cut
    target_size            of the picture wanted
    aesthetic_score        how it pleases, from 0 to 10
    """

    original_size: Pair
    crops_coords_top_left: Pair = (0, 0)
    target_size: Pair
    aesthetic_score: float

    def numbers(self, *, aesthetic: bool) -> tuple[float, ...]:
        """The numbers that a U-Net is told: six, or five of which the last is the score."""
        last = (self.aesthetic_score,) if aesthetic else self.target_size
        return (*self.original_size, *self.crops_coords_top_left, *last)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What is told beside the prompts of a call, checked.

    pooled, negative_pooled  the caller's, one row a prompt, where the caller gave embeddings
    sizes, negative_sizes    for the prompt, and for what to keep away from
    aesthetic                whether the U-Net is told the aesthetic score in place of the target size
    zeros                    whether no negative prompt is a text of zeros
    """

    pooled: Tensor | None = None
    negative_pooled: Tensor | None = None
    sizes: Sizes
    negative_sizes: Sizes
    aesthetic: bool
    zeros: bool

    def recorded(self, text: Text, size: Pair) -> dict[str, Any]:
        """What a recipe keeps of it for one image, by the options' names; nothing where all is as usual for a picture of this size."""
        usual = Sizes(original_size=size, target_size=size, aesthetic_score=AESTHETIC_SCORE)
        prompts = zip(PROMPTS, (text.prompt_2, text.negative_2), strict=True)
        kept: dict[str, Any] = {name: prompt for name, prompt in prompts if prompt is not None}
        if (self.sizes, self.negative_sizes) != (usual, usual_negative(usual)):
            kept |= {name: self._said(name) for name in NUMBERS}
        return kept | ({ZEROS: True} if self.zeros else {})

    def _said(self, option: str) -> Any:
        """The value of an option that gives these sizes, as JSON has it."""
        name = option.removeprefix("negative_")
        value = getattr(self.negative_sizes if name != option else self.sizes, name)
        return list(value) if isinstance(value, tuple) else value


def take_beside(
    given: Mapping[str, Any],
    *,
    embeds: Tensor | None,
    negative_embeds: Tensor | None,
    size: Pair,
    pooled_width: int,
    aesthetic: bool,
    zeros: bool,
) -> Beside:
    """Check the options of SDXL. `size` is the picture's, which is what is said of it where nothing else is.

    `pooled_width` is that of pooled texts, `aesthetic` whether the U-Net is told an aesthetic score, and `zeros` whether no negative
    prompt was given and the model takes that for a text of zeros.
    Raises OptionError for sizes and scores that can't be, PromptError for embeddings without their pooled ones.
    """
    pooled, negative_pooled = given.get(POOLED[0]), given.get(POOLED[1])
    for name, rows in (("prompt_embeds", embeds), ("negative_prompt_embeds", negative_embeds)):
        check_pooled(name, rows, given.get(pooled_name(name)), pooled_width)

    def pair(name: str, default: Pair, least: int = 1) -> Pair:
        value = given.get(name)
        return default if value is None else check_pair(name, value, least)

    def score(name: str, default: float) -> float:
        value = given.get(name)
        return default if value is None else check_number(name, value, least=0.0, most=100.0)

    sizes = Sizes(
        original_size=pair("original_size", size),
        crops_coords_top_left=pair("crops_coords_top_left", (0, 0), 0),
        target_size=pair("target_size", size),
        aesthetic_score=score("aesthetic_score", AESTHETIC_SCORE),
    )
    negative = Sizes(
        original_size=pair("negative_original_size", sizes.original_size),
        crops_coords_top_left=pair("negative_crops_coords_top_left", (0, 0), 0),
        target_size=pair("negative_target_size", sizes.target_size),
        aesthetic_score=score("negative_aesthetic_score", NEGATIVE_AESTHETIC_SCORE),
    )
    if not aesthetic and (given.get("negative_original_size") is None or given.get("negative_target_size") is None):
        # As in diffusers: unless both sizes are given for the negative side, it is told those of the prompt, and where that was cut.
        negative = usual_negative(sizes)
    return Beside(
        pooled=pooled,
        negative_pooled=negative_pooled,
        sizes=sizes,
        negative_sizes=negative,
        aesthetic=aesthetic,
        zeros=zeros,
    )


def usual_negative(sizes: Sizes) -> Sizes:
    """What the negative side is told where nothing is said of it."""
    return Sizes(
        original_size=sizes.original_size,
        crops_coords_top_left=sizes.crops_coords_top_left,
        target_size=sizes.target_size,
        aesthetic_score=NEGATIVE_AESTHETIC_SCORE,
    )


def check_pair(name: str, value: object, least: int) -> Pair:
    """Height and width, or where a cut begins from the top and from the left. Raises OptionError."""
    numbers = [whole(number) for number in value] if isinstance(value, Sequence) else []
    match numbers:
        case [int(first), int(second)] if least <= first <= MOST and least <= second <= MOST:
            return first, second
        case _:
            raise OptionError(f"{name} must be two whole numbers from {least}, height and width, not {value!r}")


def check_pooled(name: str, embeds: Tensor | None, pooled: Any, width: int) -> None:
    """Raise PromptError unless embeddings and their pooled texts, of this width, are given together; OptionError for what is no tensor."""
    check_tensor(pooled_name(name), pooled)
    if (embeds is None) != (pooled is None):
        raise PromptError(f"this model reads a pooled text too: pass {name} and {pooled_name(name)} together")
    if embeds is not None and tuple(pooled.shape) != (len(embeds), width):
        raise PromptError(
            f"{pooled_name(name)} must have the shape ({len(embeds)}, {width}) for this call, not {tuple(pooled.shape)}"
        )


def pooled_name(embeds: str) -> str:
    """The option that goes with an option of embeddings."""
    return embeds.replace("prompt_embeds", "pooled_prompt_embeds")


def second_texts(name: str, given: object, count: int) -> list[str | None]:
    """The second prompts, one for each of `count` first ones; None where the first serves both text encoders.

    Raises PromptError for another number of them, or what is no text.
    """
    if given is None or given == "":
        return [None] * count
    second = [given] * count if isinstance(given, str) else strings(name, given)
    if len(second) != count:
        raise PromptError(f"{len(second)} texts in {name} for {count} prompts; pass one, or one for each")
    return list(second)


def told_again(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says was told, as options of a call, and under ZEROS whether that was a text of zeros. Raises RecipeError."""
    if unknown := sorted(told.keys() - {*PROMPTS, *NUMBERS, ZEROS}):
        raise RecipeError(
            f"the recipe says that the model was told {unknown[0]!r}, which no model is; a newer Sfumato may have written it"
        )
    # A text of a list is taken as it is; by itself an empty one would stand for none.
    options = {name: [value] if name in PROMPTS else value for name, value in told.items()}
    return options | {ZEROS: told.get(ZEROS) is True}


def told_of(
    config: AnyUNetConfig, beside: Beside | None, guidance_scale: float, pooled: Tensor | None, *, negative: bool,
    noise_level: int | None = None,
) -> Told | None:  # fmt: skip
    """What a U-Net is told beside a text, in one row; None if nothing. `pooled` is the text's, `p` numbers.

    `noise_level` is that of the picture which the ×4 upscaler reads.
    """
    if isinstance(config, LatentUpscalerConfig):
        return Told(pooled=None if pooled is None else pooled[None])
    if noise_level is not None:
        return Told(noise_level=torch.tensor([noise_level]))
    scale = torch.tensor([guidance_scale]) if config.guidance_width is not None else None
    if config.sizes_width is None or beside is None or pooled is None:
        return None if scale is None else Told(guidance_scale=scale)
    sizes = beside.negative_sizes if negative else beside.sizes
    numbers = torch.tensor([sizes.numbers(aesthetic=beside.aesthetic)], dtype=torch.float32)
    return Told(pooled=pooled[None], sizes=numbers, guidance_scale=scale)
