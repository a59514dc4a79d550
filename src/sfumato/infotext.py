"""A recipe in the words of AUTOMATIC1111's web UI: the `parameters` text that Stable Diffusion tools read from a picture.

    a red apple
    Negative prompt: blurry
    Steps: 20, Sampler: Euler, Schedule type: Uniform, CFG scale: 7.5, Seed: 1, Size: 512x512, Model: sd-v1-4, …

It says less than a recipe: it is for other tools to read, and Sfumato reads it only to show it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TypeGuard, cast

from sfumato.errors import RecipeError
from sfumato.recipe import Recipe

NEGATIVE = "Negative prompt:"

# The web UI's own names, or for the samplers that it has not, the papers'.
SAMPLER_NAMES: Mapping[str, str] = {
    "plms": "PLMS",
    "ddim": "DDIM",
    "ddim_cfgpp": "DDIM CFG++",
    "ddpm": "DDPM",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_2s": "DPM++ 2S",
    "dpm_2m": "DPM 2M",
    "restart": "Restart",
    "unipc": "UniPC",
    "deis": "DEIS",
    "ipndm": "IPNDM",
    "sa_solver": "SA-Solver",
    "lcm": "LCM",
    "tcd": "TCD",
}
# The web UI's schedule types, and for diffusers' spacings the one that visits the same levels.
SPACING_NAMES: Mapping[str, str] = {
    "automatic": "Automatic",
    "leading": "DDIM",
    "trailing": "Simple",
    "linspace": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "uniform": "Uniform",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "normal": "Normal",
    "ddim": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
    "align_your_steps_xl": "Align Your Steps XL",
}
# What hires fix enlarges by, as the web UI calls it.
UPSCALER_NAMES: Mapping[str, str] = {"latent": "Latent", "pixel": "Lanczos"}
# Settings of a scheduler's that the web UI has too, by its names; left out where they are None or do nothing.
SCHEDULE_SETTINGS: Mapping[str, str] = {
    "Schedule max sigma": "sigma_max",
    "Schedule min sigma": "sigma_min",
    "Schedule rho": "rho",
    "Eta": "eta",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
}
_DOES_NOTHING = {"s_churn": 0.0, "s_tmin": 0.0, "s_noise": 1.0}

# What the web UI itself reads settings with: a name, a colon, and a value that is quoted or ends at a comma. Taken as one expression
#     \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)
# it takes quadratic time on a long line without colons; `_settings` finds the same from colon to colon, in linear time.
_NAME_BACKWARDS = re.compile(r"[\w \-/]*+")
_QUOTED = re.compile(r'\s*+("(?:\\.|[^\\"])++")(?:,|$)')
_PLAIN = re.compile(r"\s*+([^,]*+),?")
# A last line with fewer settings than this is still part of the prompt.
_FEWEST_SETTINGS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Infotext:
    """What a `parameters` text says: the prompts, and the settings by name, in order and unquoted."""

    prompt: str
    negative_prompt: str = ""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


def infotext(recipe: Recipe) -> str:
    """The `parameters` text of a recipe. Characters that no text can hold (lone surrogates) become question marks.

    `Seed` is there only where the seed alone gives the noise, as other tools take it; else `Noise` says what did. Of a picture drawn twice
    (hires fix) it tells the first pass, and the second under the names that begin with "Hires".
    """
    noise, first = _noise(recipe), _first_pass(recipe)
    settings: dict[str, object] = {
        "Steps": first.steps,
        "Sampler": SAMPLER_NAMES.get(first.sampler, first.sampler),
        "Schedule type": _schedule_type(first.scheduler),
        "CFG scale": _number(recipe.guidance_scale),
        **_guidance(recipe),
        "Seed": recipe.seed if noise is None else None,
        "Size": f"{first.width}x{first.height}",
        "Model hash": (recipe.model_sha256 or "")[:10] or None,
        "Model": PurePath(recipe.model).name or None,
        "Variation seed": recipe.subseed if recipe.subseed_strength else None,
        "Variation seed strength": _number(recipe.subseed_strength) if recipe.subseed_strength else None,
        "Seed resize from": f"{recipe.seed_resize[0]}x{recipe.seed_resize[1]}" if recipe.seed_resize else None,
        # The web UI counts from 1, the last layer; diffusers and we count the layers left out.
        "Clip skip": recipe.clip_skip + 1 if recipe.clip_skip else None,
        "Emphasis": _emphasis(recipe),
        "ENSD": recipe.eta_noise_seed_delta or None,
        # As a card with so many threads draws is what the web UI calls the GPU's.
        "RNG": "GPU" if ":" in recipe.rng else recipe.rng.upper(),
        "Noise": noise,
        # The web UI's is of both axes; it has no name for one.
        "Tiling": True if recipe.seamless == "both" else None,
        "Seamless": None if recipe.seamless == "both" else recipe.seamless,
        "Tile size": f"{recipe.tile[0]}x{recipe.tile[1]}" if recipe.tile else None,
        "Tile overlap": recipe.tile_overlap if recipe.tile else None,
        "Token merging ratio": recipe.fast.get("merge"),
        "Denoising strength": recipe.workflow_options.get("strength"),
        **_schedule_settings(first),
        **({} if first is recipe else _second_pass(first, recipe)),
        "Safety": _safety(recipe),
        "NSFW score": recipe.safety_scores.get("nsfw"),
        "Version": f"Sfumato {recipe.versions['sfumato']}" if "sfumato" in recipe.versions else "Sfumato",
    }
    lines = [first.prompt or ""]
    if recipe.negative_prompt:
        lines.append(f"{NEGATIVE} {recipe.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items() if value is not None))
    return "\n".join(lines).encode("utf-8", "replace").decode("utf-8")


def parse_infotext(text: str) -> Infotext:
    """Read a `parameters` text as the web UI reads it; `Size: 512x768` is there as `Size-1` and `Size-2` too. Never fails."""
    *lines, last = text.strip().split("\n")
    found = list(_settings(last))
    if len(found) < _FEWEST_SETTINGS:
        lines, found = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for line in lines:
        written = line.strip()
        if written.startswith(NEGATIVE):
            target, written = negative, written.removeprefix(NEGATIVE).strip()
        target.append(written)
    settings: dict[str, str] = {}
    for name, value in found:
        settings[name] = _unquoted(value)
        if size := re.fullmatch(r"(\d+)x(\d+)", settings[name]):
            settings[f"{name}-1"], settings[f"{name}-2"] = size.groups()
    return Infotext(prompt="\n".join(prompt), negative_prompt="\n".join(negative), settings=settings)


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """Names and values, quoted as they stand, of a line of settings."""
    place = 0
    while (colon := line.find(":", place)) >= 0:
        backwards = _NAME_BACKWARDS.match(line[place:colon][::-1])
        name = "" if backwards is None else backwards[0][::-1].lstrip(" -/")
        place = colon + 1
        if len(name) < 2:  # what the expression above takes for a name
            continue
        value = _QUOTED.match(line, place) or _PLAIN.match(line, place)
        assert value is not None, "anything is a plain value, nothing too"
        place = value.end()
        yield name, value[1]


def _noise(recipe: Recipe) -> str | None:
    """Where the noise came from, if not from the seed alone."""
    if recipe.seed is None:
        return None
    if recipe.noise_state is not None:
        return "a used generator"
    if recipe.noise_index > 0 or recipe.noise_count > 1:
        return f"row {recipe.noise_index + 1} of {recipe.noise_count} from seed {recipe.seed}"
    return None


def _first_pass(recipe: Recipe) -> Recipe:
    """The recipe of the picture that hires fix drew over; the recipe itself where there is none, or none that can be read."""
    record = recipe.inputs.get("image")
    values: object = cast("Mapping[str, object]", record).get("recipe") if isinstance(record, Mapping) else None
    try:
        return Recipe.from_dict(cast("Mapping[str, object]", values)) if isinstance(values, Mapping) else recipe
    except RecipeError:
        return recipe


def _second_pass(first: Recipe, second: Recipe) -> dict[str, object]:
    """What the web UI says of a second pass: its sampler, schedule and prompt where they are others than the first's."""
    own = {
        "Hires sampler": (SAMPLER_NAMES.get(second.sampler, second.sampler), second.sampler != first.sampler),
        "Hires schedule type": (
            _schedule_type(second.scheduler),
            _schedule_type(second.scheduler) != _schedule_type(first.scheduler),
        ),
        "Hires prompt": (second.prompt, second.prompt != first.prompt),
    }
    return {
        "Hires upscale": _number(round(second.width / first.width, 4)),
        "Hires steps": _steps_taken(second),
        "Hires upscaler": UPSCALER_NAMES.get(str(second.inputs["image"].get("enlarge"))),
        **{name: value for name, (value, differs) in own.items() if differs},
    }


def _steps_taken(second: Recipe) -> int:
    """How many steps a second pass took: the web UI takes as many as it says, whatever the strength, and begins as far down as we do."""
    strength = second.workflow_options.get("strength")
    if second.workflow_options.get("begun_as") == "a1111_exact":
        return second.steps
    return int(second.steps * strength) if _is_number(strength) and 0 < strength <= 1 else second.steps


def _guidance(recipe: Recipe) -> dict[str, str]:
    """What was asked of guidance, by the web UI's names, its extensions' or its descendants' where they have one."""
    asked = recipe.guidance
    said = {
        name: _number(float(value))
        for name, option in {"CFG Rescale": "guidance_rescale", "PAG scale": "pag_scale", "PAG adaptive": "pag_adaptive_scale"}.items()
        if _is_number(value := asked.get(option)) and value != 0
    }  # fmt: skip
    if isinstance(interval := asked.get("guidance_interval"), list) and len(interval) == 2:
        start, end = interval
        if end == 1 and _is_number(start):
            # The web UI leaves out the step that begins at this share too.
            said["Skip Early CFG"] = f"{start - 1e-4:.4f}"
        else:
            said["Guidance interval"] = f"{start} to {end}"
    if isinstance(freeu := asked.get("freeu"), Mapping):
        said["FreeU"] = ", ".join(f"{name} {factor}" for name, factor in freeu.items())
    return said


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a value that came with a recipe is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6


def _emphasis(recipe: Recipe) -> str | None:
    """How weights were meant, where a prompt has brackets and the web UI would take them otherwise; by its own names where it has one."""
    if not any(mark in text for text in (recipe.prompt, recipe.negative_prompt) if text for mark in "(["):
        return None
    return {"a1111": None, "a1111_no_norm": "No norm", "none": "None"}.get(recipe.emphasis, recipe.emphasis)


def _safety(recipe: Recipe) -> str | None:
    """What the judgement of the picture came to; nothing where nothing judged."""
    if recipe.safety == "flagged":
        return {"flag": "flagged", "blur": "blurred"}.get(recipe.safety_mode or "", "blocked")
    return None if recipe.safety == "off" else recipe.safety


def _schedule_type(scheduler: Mapping[str, object]) -> str | None:
    if "schedule" in scheduler:
        return SPACING_NAMES.get(str(scheduler["schedule"]))
    for spacing in ("karras", "exponential", "beta"):
        if scheduler.get(f"use_{spacing}_sigmas"):
            return SPACING_NAMES[spacing]
    return SPACING_NAMES.get(str(scheduler.get("timestep_spacing")))


def _schedule_settings(recipe: Recipe) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, option in SCHEDULE_SETTINGS.items():
        value = recipe.scheduler.get(option)
        if option == "eta" and recipe.eta:
            value = recipe.eta
        if isinstance(value, int | float) and not isinstance(value, bool) and value != _DOES_NOTHING.get(option):
            found[name] = _number(float(value))
    return found


def _number(value: float) -> str:
    """7.5 is 7.5 and 7.0 is 7, as the web UI writes them."""
    return str(int(value)) if value.is_integer() else str(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            pass  # not ours to repair: the value as it stands
    return value.strip()
