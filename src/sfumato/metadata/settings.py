"""What a picture of another program says it was made from, and what of it could not be carried over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Program: TypeAlias = Literal["AUTOMATIC1111", "ComfyUI", "InvokeAI", "NovelAI"]
"""Who wrote it, or whose form it has: others write the web UI's too."""

Emphasis: TypeAlias = Literal["a1111", "a1111_no_norm", "comfy", "compel", "novelai", "none"]
"""Whose marks in a prompt weigh its words: `(word:1.2)`, the same in two other ways reckoned, `word++`, `{word}`; nobody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Omission:
    """Something that a picture says and that is not carried over: its name and value as they stand there, and why not."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedLora:
    """A LoRA by the name that a program gave it, with how much of it the U-Net and the text encoder got, and its hash in the web UI's form."""

    name: str
    weight: float = 1.0
    text_weight: float = 1.0
    hash: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What another program's picture was made from, in Sfumato's words. None is what it does not say.

    version          of the program
    prompt, negative_prompt   without marks that name files, which are in `loras`
    emphasis         whose marks weigh the words
    guidance         what is asked of guidance and of FreeU beside the scale, by the names of a call's options
    sampler          by the name that the web UI has for it
    schedule         which noise levels: uniform, karras, exponential, sgm_uniform, simple, ddim …; None is the model's own
    sampling         numbers of the schedule and the sampler: rho, sigma_min, sigma_max, eta, s_churn, s_tmin, s_tmax, s_noise
    clip_skip        last layers of the text encoder left out
    rng … eta_noise_seed_delta   as in a recipe
    noise_count      pictures that were drawn together from one generator; this one's noise is row `noise_index` of theirs
    seamless         whether it wraps along both axes
    model, model_hash   the name and the hash by which the program knew it
    loras            in the order in which they were added
    omissions        everything else that it says and that shaped the picture
    """

    program: Program
    version: str | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    emphasis: Emphasis = "a1111"
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sampler: str | None = None
    schedule: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict[str, float])
    eta: float = 0.0
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    rng: str = "cpu"
    subseed: int | None = None
    subseed_strength: float = 0.0
    seed_resize: tuple[int, int] | None = None
    eta_noise_seed_delta: int = 0
    noise_index: int = 0
    noise_count: int = 1
    seamless: bool = False
    model: str | None = None
    model_hash: str | None = None
    loras: tuple[NamedLora, ...] = ()
    omissions: tuple[Omission, ...] = ()
