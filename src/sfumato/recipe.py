"""A recipe: everything that determines an image, as one frozen value, JSON both ways.

Needs neither torch nor a model: a recipe can be read where no image can be made.
"""

import base64
import hashlib
import json
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sfumato.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Safety = Literal["off", "passed", "flagged"]
SafetyMode = Literal["block", "blur", "flag"]
Judge = Literal["model", "filter", "function"]
Emphasis = Literal["none", "a1111", "a1111_no_norm", "comfy", "compel"]
"""In whose words a prompt is written: what of it is markup, and what becomes of its weights."""
Rounding = Literal["nearest", "down"]
"""How a decoded picture becomes one of 8 bits: to the nearest level, as diffusers does it, or down, as the web UI and ComfyUI do."""
EngineName = Literal["eager", "compile", "openvino", "graphs"]
"""What evaluates the networks: eager PyTorch, torch.compile, OpenVINO, CUDA graphs."""
WorkflowName = Literal["txt2img", "img2img", "inpaint", "instruct", "depth", "upscale"]
Seamless = Literal["x", "y", "both"]
"""Along which axes a picture can be laid beside itself: from left to right, from top to bottom."""


# What a recipe found somewhere may ask a machine for.
RANGES: dict[str, tuple[float, float]] = {
    "noise_index": (0, 2**16),
    "noise_count": (1, 2**16),
    "steps": (1, 100_000),
    "guidance_scale": (0, 1e6),
    "subseed": (-(2**63), 2**64 - 1),
    "subseed_strength": (0, 1),
    "eta_noise_seed_delta": (-(2**62), 2**62),
    "eta": (0, 1),
    "safety_threshold": (0, 1),
    "width": (1, 2**20),
    "height": (1, 2**20),
    "tile_overlap": (0, 2**20),
    "vae_tile": (1, 2**17),
}

_INT8 = re.compile(r"(static|dynamic)-[0-9a-f]{16}")
_RNG = re.compile(r"cpu|nv(:[1-9][0-9]{0,9})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedAdapter:
    """An adapter that shaped an image: a LoRA or its kin, with its weights, or an embedding, with its token.

    file      the name of its file; where that lies is not told
    sha256    the hash of that file
    weights   how much of it each network got
    merged    whether it was merged into the weights, rather than beside them
    token     the word of the prompts that stood for an embedding; None for the others
    """

    file: str
    sha256: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    merged: bool = False
    token: str | None = None

    def __post_init__(self) -> None:
        _check(self, "an adapter of the recipe")
        object.__setattr__(self, "weights", {name: float(weight) for name, weight in self.weights.items()})

    def __hash__(self) -> int:
        return hash((self.file, self.sha256, self.token))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What an image was made from, and what it came out as.

    prompt, negative_prompt    the texts as they were given; None where the caller supplied embeddings instead
    seed                       of the noise source; None where the caller supplied the noise
    noise_index, noise_count   this image takes row `index` of each draw of `count` rows, as in a batch of diffusers
    noise_state                base64 of the generator's state, where it was not freshly seeded
    rng                        which generator made the noise: `cpu`, or `nv`, CUDA's; `nv:THREADS` as a card with so many threads does
    subseed, subseed_strength  a seed that the first noise was mixed with, and how much of its noise there is, 0 to 1
    seed_resize                width and height in pixels of the smaller picture whose noise was laid on this one's; None for its own
    eta_noise_seed_delta       what is added to the seed for the noise of later steps; 0 where the first noise's generator went on
    sampler, scheduler         the sampler's name; the scheduler's config in full, spacing and noise schedule included
    width, height              pixels
    guidance                   what was asked of guidance and of FreeU beside the scale, by the names of the call's options
    fast                       what was spared of the evaluations, by the names of `FastOptions`
    tile, tile_overlap         width and height in pixels of the windows it was drawn through, None for none, and by how much they overlap
    seamless                   along which axes it wraps
    clip_skip                  last layers of the text encoder left out
    emphasis                   in whose words the prompts are written: what of them is markup; "none" as diffusers reads them
    told                       what a model of SDXL was told beside the prompt, by the names of the call's options: a second prompt, sizes
    model, model_sha256        the name it was opened by; the hash of its weights files
    dtype, device              of the U-Net; vae_dtype and text_encoder_dtype where they differ from it; autocast's dtype if it was on
    weights_dtype              the narrower dtype that the weights had been rounded to before, if any
    int8                       by what scales the U-Net's layers were computed in int8, static or dynamic, and their digest; None for float
    engine                     what evaluated the networks; what it can't do was eager
    attention_slicing          heads of an attention computed at a time, None for all
    vae_tiling                 whether the picture was decoded in tiles
    vae_tile                   latents along the edge of a tile, where it was not the usual one, to spare memory
    rows_apart                 whether guidance's rows were evaluated one after the other, to spare memory
    adapters                   what was added to the model: LoRA and its kin, and the embeddings that the prompts name
    safety                     what was said of the picture's safety, "off" where nothing judged
    safety_by, safety_mode     who said so: the model's own checker, Sfumato's filter or a function; what became of a flagged picture
    safety_threshold           of Sfumato's filter
    safety_scores              what it decided by; the filter's "nsfw" is what lay beside the threshold
    exact                      whether the image's rows were evaluated alone
    rounding                   of the decoded picture to 8 bits: to the nearest level, or down
    workflow                   what it was drawn from: words alone, or pictures as well
    inputs                     those pictures by the names of their options: the hash of their RGB bytes, size, and file, but not where it lies
    workflow_options           what was said of them, by the names of the call's options: strength, mask_blur …
    versions                   of what computed it: sfumato, torch, python …
    pixels_sha256              hash of the picture's RGB bytes, row by row; None while there is no picture
    unrecorded                 what shaped the image and no recipe can hold (latents of the caller's, a callback …), in words; None for nothing

    Raises RecipeError for a value of the wrong type or out of its range, or a number that JSON has no place for (NaN, infinity).
    """

    prompt: str | None
    negative_prompt: str | None = ""
    seed: int | None
    noise_index: int = 0
    noise_count: int = 1
    noise_state: str | None = None
    rng: str = "cpu"
    subseed: int | None = None
    subseed_strength: float = 0.0
    seed_resize: tuple[int, int] | None = None
    eta_noise_seed_delta: int = 0
    sampler: str
    scheduler: Mapping[str, Any]
    steps: int
    guidance_scale: float
    guidance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fast: Mapping[str, Any] = field(default_factory=dict[str, Any])
    eta: float = 0.0
    width: int
    height: int
    tile: tuple[int, int] | None = None
    tile_overlap: int = 0
    seamless: Seamless | None = None
    clip_skip: int | None = None
    emphasis: Emphasis = "none"
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dtype: str
    vae_dtype: str | None = None
    text_encoder_dtype: str | None = None
    weights_dtype: str | None = None
    autocast: str | None = None
    int8: str | None = None
    engine: EngineName = "eager"
    attention_slicing: int | None = None
    vae_tiling: bool = False
    vae_tile: int | None = None
    rows_apart: bool = False
    device: str
    model: str
    model_sha256: str | None = None
    adapters: tuple[UsedAdapter, ...] = ()
    safety: Safety = "off"
    safety_by: Judge | None = None
    safety_mode: SafetyMode | None = None
    safety_threshold: float | None = None
    safety_scores: Mapping[str, float] = field(default_factory=dict[str, float])
    exact: bool = True
    rounding: Rounding = "nearest"
    workflow: WorkflowName = "txt2img"
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    workflow_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    pixels_sha256: str | None = None
    unrecorded: str | None = None

    def __post_init__(self) -> None:
        _check(self, "the recipe")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # NaN is in no range
                raise RecipeError(f"the recipe's {name} is {_brief(value)}; expected {least:g} to {most:g}")
        if self.noise_index >= self.noise_count:
            raise RecipeError(f"the recipe takes noise row {self.noise_index} of {self.noise_count}; rows count from 0")
        if not _RNG.fullmatch(self.rng):
            raise RecipeError(
                f"the recipe's rng is {_brief(self.rng)}; expected 'cpu', 'nv' or 'nv:' and a number of threads"
            )
        for name in ("seed_resize", "tile"):
            sides = getattr(self, name)
            if sides is not None and (len(sides) != 2 or not min(sides) >= 8):
                raise RecipeError(f"the recipe's {name} is {_brief(sides)}; expected a width and a height")
        if self.int8 is not None and not _INT8.fullmatch(self.int8):
            raise RecipeError(
                f"the recipe's int8 is {_brief(self.int8)}; expected 'static-' or 'dynamic-' and 16 hexadecimal digits"
            )
        if self.subseed_strength and self.subseed is None:
            raise RecipeError("the recipe has a subseed_strength and no subseed")
        try:
            # As JSON gives them back: 7 is 7.0, a tuple is a list. So a recipe equals itself after a round trip.
            for name in ("guidance_scale", "eta", "subseed_strength"):
                object.__setattr__(self, name, float(getattr(self, name)))
            for name in (
                "scheduler",
                "told",
                "versions",
                "safety_scores",
                "inputs",
                "workflow_options",
                "guidance",
                "fast",
            ):
                object.__setattr__(self, name, json.loads(json.dumps(dict(getattr(self, name)))))
            self.to_json()
        except (TypeError, ValueError, OverflowError) as error:
            raise RecipeError(f"the recipe holds a value that JSON has no place for ({error})") from error
        try:
            base64.b64decode(self.noise_state or "", validate=True)
        except ValueError as error:
            raise RecipeError(f"the recipe's noise_state is damaged: not base64 ({error})") from error

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """One line of ASCII; keys in the order above."""
        return json.dumps(_values(self), allow_nan=False, default=_values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """Read what `to_json` wrote. Raises RecipeError for damaged JSON, and for keys that are unknown, missing or of the wrong type."""
        try:
            values: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"the recipe is damaged: not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise RecipeError(f"the recipe is damaged: expected a JSON object, found {_brief(values)}")
        return cls.from_dict(cast("dict[str, Any]", values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe with these values. Raises RecipeError for keys that are unknown, missing or of the wrong type."""
        listed: object = values.get("adapters", ())
        if isinstance(listed, list) and all(isinstance(one, Mapping) for one in cast("list[object]", listed)):
            adapters = tuple(_made(UsedAdapter, one) for one in cast("list[Mapping[str, Any]]", listed))
            values = {**values, "adapters": adapters}
        for name in ("seed_resize", "tile"):
            sides: object = values.get(name)
            if isinstance(sides, list):
                values = {**values, name: tuple(cast("list[object]", sides))}
        return _made(cls, values)


def pixels_sha256(pixels: "NDArray[np.uint8]") -> str:
    """Hash of a picture's bytes, `height width 3`: equal for two pictures of one size only when they are bit-identical."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


Made = TypeVar("Made", Recipe, UsedAdapter)


def _made(cls: type[Made], values: Mapping[str, Any]) -> Made:
    """The value with these fields. Raises RecipeError for keys that are unknown or missing."""
    options = {option.name: option for option in fields(cls)}
    if unknown := [name for name in values if name not in options]:
        raise RecipeError(
            f"the recipe has unknown keys ({', '.join(map(repr, unknown))}); a newer Sfumato may have written it"
        )
    required = [o.name for o in options.values() if o.default is MISSING and o.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise RecipeError(f"the recipe is incomplete: it lacks {', '.join(missing)}")
    return cls(**values)


def _values(of: Any) -> dict[str, Any]:
    """The fields by name, in their order."""
    return {option.name: getattr(of, option.name) for option in fields(of)}


def _check(of: "Recipe | UsedAdapter", what: str) -> None:
    """Raise RecipeError unless every field is of its annotated type."""
    for name, kind in _kinds(type(of)).items():
        value = getattr(of, name)
        if not _fits(value, kind):
            raise RecipeError(f"{what}'s {name} is {_brief(value)}; expected {_spoken(kind)}")


@cache
def _kinds(cls: type) -> dict[str, Any]:
    """The annotated type of each field."""
    return get_type_hints(cls)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated type; a whole number will do for a float, a bool for neither."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return False
        entries = cast("Mapping[object, object]", value).items()
        return all(_fits(key, arguments[0]) and _fits(entry, arguments[1]) for key, entry in entries)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in cast("tuple[object, ...]", value))
    if kind is Any:
        return True
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _spoken(kind: Any) -> str:
    """A type as a person says it."""
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_spoken(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list of adapters" if get_args(kind)[0] is UsedAdapter else "a list of two whole numbers"
    return names.get(kind, "a table of names and values")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
