"""What can be set on `sfumato generate`, as fields: their names, and their values out of texts.

They are read off the command itself, so that whatever it can be told a grid can vary and a batch can say.
"""

import inspect
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from sfumato.cli.generate import generate
from sfumato.errors import OptionError, UnknownNameError

OF_A_RUN = ("number", "out", "grid", "animate", "overwrite", "quiet")
"""Options of the command that say nothing of a picture."""

PATHS = ("image", "mask", "depth", "styles", "wildcards", "lora", "embedding", "model", "vae_tiny", "int8_scales")
"""Fields that name files."""

# Names that other programs have for them. The web UI's clip skip counts from 1, and so is none of these.
ALIASES: Mapping[str, str] = {
    "cfg": "guidance", "cfg scale": "guidance", "guidance scale": "guidance",
    "sampling steps": "steps", "num inference steps": "steps",
    "schedule": "spacing", "schedule type": "spacing", "scheduler": "spacing",
    "negative prompt": "negative", "checkpoint": "model", "checkpoint name": "model",
    "denoising": "strength", "denoising strength": "strength",
    "subseed": "variation seed", "var. seed": "variation seed", "subseed strength": "variation strength",
    "var. strength": "variation strength", "hires. fix": "hires", "hires scale": "hires", "eta noise seed delta": "ensd",
}  # fmt: skip

# What a value may be before any model is asked.
RANGES: Mapping[str, tuple[float, float]] = {
    "steps": (1, 1000), "guidance": (0, math.inf), "eta": (0, 1), "strength": (0, 1), "hires_strength": (0, 1),
    "hires_steps": (1, 1000), "hires": (1, 16), "variation_strength": (0, 1), "clip_skip": (0, 100), "mask_blur": (0, 1024),
    "only_masked": (0, 2**20), "image_guidance": (0, math.inf), "safety_threshold": (0, 1),
    "noise_level": (0, 350), "upscale": (1, 16), "tile_overlap": (0, 2**20), "guidance_rescale": (0, 1), "pag_scale": (0, math.inf),
    "pag_adaptive": (0, math.inf),
    "seed": (0, 2**64 - 1), "variation_seed": (0, 2**64 - 1), "number": (1, 10_000),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One option: its name in Python, what its values are, whether it may be given several times, and its value when it is not given."""

    name: str
    kind: type
    several: bool
    default: Any

    @property
    def title(self) -> str:
        """Its name as people read it; "spacing" is the schedule."""
        return "schedule" if self.name == "spacing" else self.name.replace("_", " ")

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers, of which there are ranges."""
        return self.kind in (int, float)

    def read(self, text: str) -> Any:
        """The value that a text says. Raises OptionError."""
        text = text.strip()
        if self.several:
            return [text] if text else []
        match self.kind.__name__:
            case "int":
                value: Any = int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
            case "float":
                value = float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE) else None  # fmt: skip
            case "bool":
                value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
                    text.lower()
                )
            case "Path":
                value = Path(text) if text else None
            case _:
                return text
        if value is None:
            raise OptionError(f"{self.title} is {text!r}; expected {_SPOKEN[self.kind.__name__]}")
        return self.checked(value)

    def take(self, value: Any) -> Any:
        """The value that JSON has, of the field's kind; a text is read. Raises OptionError."""
        if self.several:
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
                raise OptionError(f"{self.title} is {value!r}; expected a text, or a list of texts")
            return values
        if isinstance(value, str):
            return self.read(value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.kind:
            raise OptionError(f"{self.title} is {value!r}; expected {_SPOKEN[self.kind.__name__]}")
        return self.checked(value)

    def checked(self, value: Any) -> Any:
        """The value. Raises OptionError for a number out of its range."""
        least, most = RANGES.get(self.name, (-math.inf, math.inf))
        if self.is_number and not least <= value <= most:
            bounds = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
            raise OptionError(f"{self.title} is {value}; expected a number {bounds}")
        return value


_SPOKEN = {"int": "a whole number", "float": "a number", "bool": "true or false", "Path": "a file", "str": "a text"}


@cache
def fields() -> dict[str, Field]:
    """Everything that a picture can be told, by its name in Python; `prompt` first."""
    hints = get_type_hints(generate, include_extras=True)
    found = {"prompt": Field(name="prompt", kind=str, several=False, default="")}
    for name, parameter in inspect.signature(generate).parameters.items():
        if name == "prompts" or name in OF_A_RUN:
            continue
        kind, several = _kind(hints[name])
        found[name] = Field(name=name, kind=kind, several=several, default=parameter.default)
    return found


def find_field(name: str, what: str, *more: str) -> Field:
    """The field of that name, in any of its spellings. Raises UnknownNameError that says what there is; `more` are names besides."""
    flat = " ".join(re.split(r"[\s_-]+", name.strip().lower()))
    wanted = ALIASES.get(flat, flat).replace(" ", "_")
    if wanted not in fields():
        titles = [field.title.replace(" ", "-") for field in fields().values()]
        raise UnknownNameError(what, name.strip(), [*titles, *more])
    return fields()[wanted]


def _kind(hint: Any) -> tuple[type, bool]:
    """What an option's values are, and whether there may be several."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (one for one in get_args(hint) if one is not types.NoneType)
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    assert hint in (int, float, bool, str, Path), f"options of {hint} can't be varied; teach Field.read to read them"
    return hint, False
