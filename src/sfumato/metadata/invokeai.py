"""InvokeAI's metadata as settings: `invokeai_metadata` since its version 3, `sd-metadata` before."""

import re
from collections.abc import Mapping
from typing import Any, cast

from sfumato.errors import MetadataError
from sfumato.metadata.draft import NOT_KNOWN, Draft, number, parsed_table, says_nothing, sound, table
from sfumato.metadata.names import INVOKE_OLD_SAMPLERS, INVOKE_SAMPLERS, STOCHASTIC
from sfumato.metadata.settings import NamedLora, Settings

FROM_A_PICTURE = "it began from another picture, which the file does not hold"
LATER_NOISE = "InvokeAI draws the noise of later steps from another seed"
ONE_OF_ITS_OWN = "Sfumato has no such part; the picture is drawn without it"

WHY: Mapping[str, str] = {
    **dict.fromkeys(("init_image", "strength", "fit", "mask", "init_mask", "hrf_method", "hrf_strength"), FROM_A_PICTURE),
    **dict.fromkeys(("controlnets", "ipAdapters", "t2iAdapters", "refiner_model", "seamless_x", "seamless_y", "control_layers", "regions"), ONE_OF_ITS_OWN),
    "vae": "the model's own VAE decodes, or the one you put in",
    "positive_style_prompt": "the model's second text encoder reads the prompt",
    "negative_style_prompt": "the model's second text encoder reads the negative prompt",
    "variations": "it mixes noise in another way than the web UI",
    "perlin": "Sfumato's noise has no pattern mixed in",
    "threshold": "Sfumato clips no latents",
    "postprocessing": "the picture is left as it is drawn",
    "generation_mode": FROM_A_PICTURE,
    "type": FROM_A_PICTURE,
}  # fmt: skip
# What has no say in the picture.
IRRELEVANT = frozenset({"app_id", "created_by", "board", "workflow", "metadata_version", "_canvas_objects", "model_id"})


def read_invokeai(text: str) -> Settings:
    """The settings of an `invokeai_metadata` text. Raises MetadataError for a text that is none."""
    said = parsed_table(text, "the picture's invokeai_metadata")
    draft = Draft("InvokeAI", emphasis="compel")
    _version(draft, said)
    for name, field in (("positive_prompt", "prompt"), ("negative_prompt", "negative_prompt")):
        if (value := said.pop(name, None)) is not None:
            draft.text(field, name, value)
    _numbers(draft, said)
    skipped = said.pop("clip_skip", None)
    if not says_nothing(skipped):
        draft.whole("clip_skip", "clip_skip", skipped)
    device = said.pop("rand_device", "cpu")
    if device == "cuda":
        draft.values["rng"] = "nv"
    elif device != "cpu":
        draft.omit("rand_device", device, "it is neither cpu nor cuda; the CPU's noise is taken")
    scheduler = said.pop("scheduler", None)
    if isinstance(scheduler, str):
        bare = scheduler.removesuffix("_k")
        _sampler(draft, "scheduler", scheduler, INVOKE_SAMPLERS.get(bare), "karras" if bare != scheduler else None)
    model = table(said.pop("model", None))
    name = model.get("name", model.get("model_name"))
    if isinstance(name, str):
        draft.text("model", "model", name)
    _loras(draft, said.pop("loras", None))
    if said.get("generation_mode") in ("txt2img", "sdxl_txt2img"):
        said.pop("generation_mode")
    _rest(draft, said)
    return draft.settings()


def read_old_invokeai(text: str) -> Settings:
    """The settings of an `sd-metadata` text. Raises MetadataError for a text that is none, or tells of no picture."""
    outer = parsed_table(text, "the picture's sd-metadata")
    said = dict(table(outer.get("image")))
    if not said:
        raise MetadataError("the picture's sd-metadata tells of no picture")
    draft = Draft("InvokeAI", emphasis="compel", rng="nv")  # before version 3 it drew noise on its device
    _version(draft, outer)
    _old_prompts(draft, said.pop("prompt", None))
    _numbers(draft, said)
    sampler = said.pop("sampler", None)
    if isinstance(sampler, str):
        _sampler(draft, "sampler", sampler, INVOKE_OLD_SAMPLERS.get(sampler), None)
    for name, field in (("model_weights", "model"), ("model_hash", "model_hash")):
        value = outer.get(name)
        if isinstance(value, str):
            draft.text(field, name, value)
    if said.get("type") == "txt2img":
        said.pop("type")
    _rest(draft, said)
    return draft.settings()


def _version(draft: Draft, said: dict[str, Any]) -> None:
    version = said.pop("app_version", None)
    if isinstance(version, str):
        draft.text("version", "app_version", version)


def _numbers(draft: Draft, said: dict[str, Any]) -> None:
    for name in ("seed", "steps", "width", "height"):
        if name in said:
            draft.whole(name, name, said.pop(name))
    if "cfg_scale" in said:
        draft.number("guidance_scale", "cfg_scale", said.pop("cfg_scale"))
    if not says_nothing(rescale := said.pop("cfg_rescale_multiplier", None)):
        draft.guidance("guidance_rescale", "cfg_rescale_multiplier", rescale)


def _sampler(draft: Draft, name: str, given: str, known: str | None, schedule: str | None) -> None:
    if known is None:
        draft.omit(name, given, "Sfumato does not know this sampler")
        return
    draft.values |= {"sampler": known, "schedule": schedule}
    if known in STOCHASTIC:
        draft.omit("noise of later steps", given, LATER_NOISE)


def _loras(draft: Draft, given: object) -> None:
    for entry in _entries(given):
        said = table(entry)
        model = table(said.get("model", said.get("lora")))
        name, weight = model.get("name", model.get("model_name")), number(said.get("weight", 1.0))
        if isinstance(name, str) and weight is not None:
            draft.loras.append(NamedLora(name=name, weight=weight, text_weight=weight))
        else:
            draft.omit("loras", entry, "its name or its weight can't be read")


def _old_prompts(draft: Draft, given: object) -> None:
    """The prompt, whose parts in brackets are what to keep out of the picture."""
    entries = [{"prompt": given, "weight": 1.0}] if isinstance(given, str) else _entries(given)
    texts: list[str] = []
    for entry in entries:
        text, weight = table(entry).get("prompt"), number(table(entry).get("weight", 1.0))
        if not isinstance(text, str):
            draft.omit("prompt", entry, "it is no text")
            continue
        if weight != 1.0:
            draft.omit("prompt", entry, "parts of a prompt are not weighed; all count the same")
        texts.append(text)
    whole = " ".join(texts)
    draft.values["prompt"] = sound(re.sub(r" ?\[[^\[\]]*\]", "", whole).strip())
    draft.values["negative_prompt"] = sound(" ".join(part.strip() for part in re.findall(r"\[([^\[\]]*)\]", whole)))


def _rest(draft: Draft, said: Mapping[str, Any]) -> None:
    """Name what was not carried over."""
    for name, value in said.items():
        if name not in IRRELEVANT and not says_nothing(value):
            draft.omit(name, value, WHY.get(name, NOT_KNOWN))


def _entries(given: object) -> list[object]:
    return cast("list[object]", given) if isinstance(given, list) else []
