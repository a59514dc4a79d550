"""What a pipeline call asks for, checked before any work is done."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sfumato.errors import OptionError, PromptError, SizeError
from sfumato.recipe import Emphasis, Rounding

if TYPE_CHECKING:
    from sfumato.engine import FastOptions
    from sfumato.pipeline.beside import Beside
    from sfumato.pipeline.canvas import Canvas
    from sfumato.pipeline.guidance_options import GuidanceOptions
    from sfumato.pipeline.workflow import Workflow

MULTIPLE = 8
"""Sizes are multiples of 8 pixels, as everywhere in the field, whatever the VAE's own scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One image's words: the prompt and what to keep away from. None where embeddings were given instead.

    `prompt_2` and `negative_2` are for a second text encoder; None where it reads the same.
    """

    prompt: str | None
    negative: str | None
    prompt_2: str | None = None
    negative_2: str | None = None

    @property
    def prompts(self) -> tuple[str, str] | None:
        """The prompt for each of two text encoders; None where embeddings were given instead."""
        return None if self.prompt is None else (self.prompt, self.prompt if self.prompt_2 is None else self.prompt_2)

    @property
    def negatives(self) -> tuple[str, str] | None:
        """What to keep away from, for each of two text encoders; None where embeddings were given instead."""
        if self.negative is None:
            return None
        return self.negative, self.negative if self.negative_2 is None else self.negative_2

    def read(self, *, guided: bool) -> tuple[str | None, ...]:
        """All that the text encoders may read of it."""
        return (self.prompt, self.prompt_2, *((self.negative, self.negative_2) if guided else ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A checked request for one image per entry of `texts`; sizes in pixels.

    `guided` says whether guidance asks for a second answer: a network that is told its guidance scale needs none.
    `beside` is for models of SDXL. `workflow` is what is asked for beside words; None for a picture from words alone. `guidance` is what is
    asked of guidance beside its scale; None for nothing. `canvas` says whether it is drawn through windows, and wraps; `fast` what may be spared.
    """

    texts: tuple[Text, ...]
    images_per_prompt: int
    height: int
    width: int
    steps: int
    guidance_scale: float
    guided: bool
    eta: float
    clip_skip: int | None
    emphasis: Emphasis = "none"
    rounding: Rounding = "nearest"
    beside: "Beside | None" = None
    workflow: "Workflow | None" = None
    guidance: "GuidanceOptions | None" = None
    canvas: "Canvas | None" = None
    fast: "FastOptions | None" = None


def check_size(height: object, width: object, vae_scale: int) -> tuple[int, int]:
    """Height and width in pixels. Raises SizeError unless both are positive multiples of 8 and of the VAE's scale."""
    multiple = math.lcm(MULTIPLE, vae_scale)
    sides: list[int] = []
    for name, given in (("height", height), ("width", width)):
        side = whole(given)
        if side is None:
            raise SizeError(f"{name} must be a whole number of pixels, not {given!r}")
        if side < multiple or side % multiple:
            near = max(multiple, round(side / multiple) * multiple)
            raise SizeError(f"{name} must be a positive multiple of {multiple}, not {side}; try {near}")
        sides.append(side)
    return sides[0], sides[1]


def whole(value: Any) -> int | None:
    """A whole number of any kind (NumPy's too) as an int; None for anything else, True and False included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def check_number(name: str, value: object, *, least: float, most: float = math.inf) -> float:
    """The value as a float. Raises OptionError unless it is a finite number from `least` to `most`."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number larger than any float
        number = math.inf
    if not math.isfinite(number):
        raise OptionError(f"{name} must be a finite number, not {value!r}")
    if not least <= number <= most:
        bounds = f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise OptionError(f"{name} must be {bounds}, not {number:g}")
    return number


def check_count(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """The value as an int. Raises OptionError unless it is a whole number from `least` to `most`."""
    count = whole(value)
    if count is None:
        raise OptionError(f"{name} must be a whole number, not {value!r}")
    if count < least or (most is not None and count > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"{name} must be {bounds}, not {count}")
    return count


def check_clip_skip(value: object, layers: int) -> int | None:
    """How many of the text encoder's last layers to leave out; None for none. Raises OptionError unless one is left."""
    return None if value is None else check_count("clip_skip", value, least=0, most=layers - 1) or None


def check_tensor(name: str, value: object) -> None:
    """Raise OptionError unless the value is a tensor of floating-point numbers, or None."""
    if value is not None and not (isinstance(value, Tensor) and value.is_floating_point()):
        kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"{type(value).__name__}"
        raise OptionError(f"{name} must be a tensor of floating-point numbers, not {kind}")


def check_embeds(
    texts: Sequence[Text], embeds: Tensor | None, negative_embeds: Tensor | None, width: int, tokens: int | None
) -> None:
    """Raise PromptError unless given embeddings are as wide as the network reads, and their tokens agree with the other side's.

    `texts` are those of check_prompts. `tokens` is how long an encoded prompt is; None without guidance, where no two sides meet.
    """
    for name, given, other in (
        ("prompt_embeds", embeds, negative_embeds),
        ("negative_prompt_embeds", negative_embeds, embeds),
    ):
        if given is None:
            continue
        shape = tuple(given.shape)
        if given.ndim != 3 or shape[0] != len(texts) or shape[2] != width:
            raise PromptError(f"{name} must have the shape ({len(texts)}, tokens, {width}) for this call, not {shape}")
        if tokens is not None and other is None and shape[1] != tokens:
            raise PromptError(
                f"{name} has {shape[1]} tokens and a prompt in words {tokens}; give embeddings for both, of equal length"
            )


def check_prompts(
    prompt: str | Sequence[str] | None,
    negative: str | Sequence[str] | None,
    embeds: Tensor | None,
    negative_embeds: Tensor | None,
) -> tuple[Text, ...]:
    """One Text a prompt. Raises PromptError when there is none, two of a kind, or counts that differ, OptionError for embeddings of no tensor."""
    check_tensor("prompt_embeds", embeds)
    check_tensor("negative_prompt_embeds", negative_embeds)
    if embeds is None:
        if prompt is None:
            raise PromptError('no prompt: pass prompt="…", or prompt_embeds')
        prompts: list[str | None] = list(strings("prompt", prompt))
    else:
        if prompt is not None:
            raise PromptError("both prompt and prompt_embeds were given; pass one of them")
        if embeds.ndim != 3:
            raise PromptError(f"prompt_embeds must be batch × tokens × dim, not of shape {tuple(embeds.shape)}")
        prompts = [None] * embeds.shape[0]
    if not prompts:
        raise PromptError("the list of prompts is empty; pass at least one")

    if negative_embeds is not None:
        if negative is not None:
            raise PromptError("both negative_prompt and negative_prompt_embeds were given; pass one of them")
        if embeds is not None and negative_embeds.shape != embeds.shape:
            raise PromptError(
                f"negative_prompt_embeds must have the shape of prompt_embeds, {tuple(embeds.shape)}, "
                f"not {tuple(negative_embeds.shape)}"
            )
        negatives: list[str | None] = [None] * len(prompts)
    elif negative is None or isinstance(negative, str):
        negatives = [negative or ""] * len(prompts)
    else:
        negatives = list(strings("negative_prompt", negative))
    if len(negatives) != len(prompts):
        raise PromptError(f"{len(negatives)} negative prompts for {len(prompts)} prompts; pass one, or one for each")
    return tuple(Text(prompt=p, negative=n) for p, n in zip(prompts, negatives, strict=True))


def strings(name: str, value: object) -> list[str]:
    """The texts of an option that is one, or a list of them. Raises PromptError for anything else."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise PromptError(f"{name} must be a string or a list of strings, not {type(value).__name__}")
    return list(values)
