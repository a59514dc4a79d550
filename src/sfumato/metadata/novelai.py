"""NovelAI's metadata as settings: the text chunks of its PNGs, of which `Comment` is a JSON object."""

import re
from collections.abc import Mapping

from sfumato.errors import MetadataError
from sfumato.metadata.draft import NOT_KNOWN, Draft, parsed_table, says_nothing, table
from sfumato.metadata.names import NOVELAI_SAMPLERS, NOVELAI_SCHEDULES
from sfumato.metadata.settings import Settings

FROM_A_PICTURE = "it began from another picture, which the file does not hold"
WHY: Mapping[str, str] = {
    "strength": FROM_A_PICTURE,
    "noise": FROM_A_PICTURE,
    "cfg_rescale": "Sfumato does not rescale the guidance",
    "sm": "Sfumato has no SMEA sampling",
    "sm_dyn": "Sfumato has no SMEA sampling",
    "dynamic_thresholding": "Sfumato does not threshold the guidance",
    "uncond_scale": "Sfumato has one scale of guidance",
    "v4_prompt": "the main prompt is taken, its characters are not",
    "v4_negative_prompt": "the main prompt is taken, its characters are not",
}
# What has no say in the picture, or only beside something that has.
IRRELEVANT = frozenset(
    {
        "n_samples", "hide_debug_overlay", "request_type", "signed_hash", "version", "legacy", "legacy_v3_extend", "stream",
        "skip_cfg_below_sigma", "controlnet_strength", "dynamic_thresholding_percentile", "dynamic_thresholding_mimic_scale",
        "prefer_brownian", "uncond_per_vibe", "wonky_vibe_correlation", "deliberate_euler_ancestral_bug", "cfg_sched_eligibility",
    }
)  # fmt: skip
# Its models of Stable Diffusion 1's kind, by the name in `Source`; their text encoder stops before its last layer.
OF_THE_FIRST_KIND = re.compile(r"Stable Diffusion [0-9A-F]+")
FIRST_SEED_DELTA = 31337
NEUTRAL: Mapping[str, object] = {"uncond_scale": 1.0}


def read_novelai(chunks: Mapping[str, str]) -> Settings:
    """The settings of a picture's text chunks. Raises MetadataError unless `Comment` tells of a picture.

    NovelAI's generator is not published; that its seeds give the noise of CUDA, and later noise that of the seed plus 31,337, is what
    people found who made its pictures again with the web UI.
    """
    said = parsed_table(chunks.get("Comment", ""), "NovelAI's comment")
    if "sampler" not in said and "steps" not in said:
        raise MetadataError("the picture's comment has neither steps nor a sampler: it is not NovelAI's")
    draft = Draft("NovelAI", emphasis="novelai", rng="nv", eta_noise_seed_delta=FIRST_SEED_DELTA)
    source = chunks.get("Source")
    if source is not None:
        draft.text("model", "Source", source)
        if OF_THE_FIRST_KIND.fullmatch(source):
            draft.values["clip_skip"] = 1
    prompt = said.pop("prompt", None)
    draft.text("prompt", "Description", chunks.get("Description") if prompt is None else prompt)
    if (negative := said.pop("uc", None)) is not None:
        draft.text("negative_prompt", "uc", negative)
    for name in ("seed", "steps", "width", "height"):
        if name in said:
            draft.whole(name, name, said.pop(name))
    if "scale" in said:
        draft.number("guidance_scale", "scale", said.pop("scale"))
    _sampler(draft, said.pop("sampler", None), said.pop("noise_schedule", None))
    for name, value in said.items():
        if (
            name in IRRELEVANT
            or says_nothing(value)
            or value == NEUTRAL.get(name, ())
            or _says_nothing_more(name, value)
        ):
            continue
        draft.omit(name, value, WHY.get(name, NOT_KNOWN))
    return draft.settings()


def _sampler(draft: Draft, sampler: object, schedule: object) -> None:
    known = NOVELAI_SAMPLERS.get(sampler) if isinstance(sampler, str) else None
    if known is None:
        draft.omit("sampler", sampler, "Sfumato does not know this sampler")
        return
    draft.values["sampler"] = known
    if schedule is None:
        draft.values["schedule"] = "ddim" if known in ("DDIM", "PLMS") else "uniform"
    elif isinstance(schedule, str) and schedule in NOVELAI_SCHEDULES:
        draft.values["schedule"] = NOVELAI_SCHEDULES[schedule]
    else:
        draft.omit("noise_schedule", schedule, "Sfumato does not know this schedule")


def _says_nothing_more(name: str, value: object) -> bool:
    """Whether a prompt in the form of version 4 has no characters beside the main prompt."""
    return name in ("v4_prompt", "v4_negative_prompt") and not table(table(value).get("caption")).get("char_captions")
