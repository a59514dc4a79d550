"""The text of AUTOMATIC1111's web UI, which its descendants write too, as settings."""

import re
from collections.abc import Mapping

from sfumato.errors import MetadataError
from sfumato.infotext import SCHEDULE_SETTINGS, parse_infotext
from sfumato.metadata.draft import LONGEST, NOT_KNOWN, Draft, number, sound
from sfumato.metadata.names import AUTOMATIC, JOINED
from sfumato.metadata.settings import NamedLora, Settings

FROM_A_PICTURE = "it began from another picture, which the file does not hold"
PARTS = "Sfumato has no such part; the picture is drawn without it"
SECOND_PASS = "only the first pass is drawn"

NO_NORM = "No norm"
"""The web UI's way to weigh words that does not bring their mean back to what it was."""

# What has no say in the picture, or is said again by another setting.
IRRELEVANT = frozenset({"User", "Size-1", "Size-2", "Seed resize from-1", "Seed resize from-2", "Safety", "NSFW score", "Created Date"})  # fmt: skip

# Values that change nothing.
NEUTRAL: Mapping[str, frozenset[str]] = {
    "Clip skip": frozenset({"1"}),
    "Emphasis": frozenset({"Original"}),
    "Tiling": frozenset({"False"}),
}

WHY: Mapping[str, str] = {
    "Denoising strength": FROM_A_PICTURE,
    "Init image hash": FROM_A_PICTURE,
    "Image CFG scale": FROM_A_PICTURE,
    "Noise multiplier": FROM_A_PICTURE,
    "Conditional mask weight": FROM_A_PICTURE,
    "Mask mode": FROM_A_PICTURE,
    "Mask blur": FROM_A_PICTURE,
    "Inpaint area": FROM_A_PICTURE,
    "Masked area padding": FROM_A_PICTURE,
    "Masked content": FROM_A_PICTURE,
    "Face restoration": PARTS,
    "Hypernet": PARTS,
    "Hypernet strength": PARTS,
    "Refiner": PARTS,
    "Refiner switch at": PARTS,
    "VAE": "the model's own VAE decodes, or the one you put in",
    "VAE hash": "the model's own VAE decodes, or the one you put in",
    "TI hashes": "embeddings are loaded with --embedding FILE, and not by their hashes",
    "Tiling": "it is neither True nor False",
    "NGMS": "every step is guided",
    "Token merging ratio": "tokens are not merged",
    "Emphasis": "it reckons the weights of words in another way",
}
STARTS: Mapping[str, str] = {"Hires": SECOND_PASS, "First pass": SECOND_PASS, "ControlNet": PARTS, "ADetailer": PARTS, "AddNet": PARTS}  # fmt: skip

# Numbers of samplers and schedules that change nothing: 0 stands there for what the sampler or the schedule has by itself.
_USUAL: Mapping[str, float] = {"rho": 0.0, "sigma_min": 0.0, "sigma_max": 0.0, "eta": 1.0, "s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 0.0, "s_noise": 1.0}  # fmt: skip

# By the names of the web UI's extensions and descendants.
_GUIDANCE: Mapping[str, str] = {"CFG Rescale": "guidance_rescale", "PAG scale": "pag_scale", "PAG adaptive": "pag_adaptive_scale"}  # fmt: skip
_FREEU = re.compile(r"(s1|s2|b1|b2) ([0-9]{1,6}(?:\.[0-9]{1,20})?)")
_NEXT_SHARE = 1e-4  # the web UI does not guide the step that begins at the share itself

# What a prompt says by other means than weights, where they are turned off.
_SAYS_MORE = re.compile(r"\[|\bAND\b|\bBREAK\b")

_LORA = re.compile(r"<lora:([^:<>]{1,500})((?::[^:<>]{0,100}){0,6})>")
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")


def read_a1111(text: str) -> Settings:
    """The settings that a `parameters` text says. Raises MetadataError for one that holds none, or is too long."""
    if len(text) > LONGEST:
        raise MetadataError(f"the parameters have {len(text):,} characters; up to {LONGEST:,} are read")
    found = parse_infotext(sound(text))
    if not found.settings:
        raise MetadataError("the picture's parameters are a text without settings: no steps, seed or sampler")
    said = dict(found.settings)
    draft = Draft("AUTOMATIC1111", version=said.pop("Version", None), rng="nv")
    _prompts(draft, found.prompt, found.negative_prompt, said.pop("Lora hashes", ""))
    _numbers(draft, said)
    _noise(draft, said)
    _sampler(draft, said)
    _guidance(draft, said)
    _emphasis(draft, said)
    if said.get("Tiling") == "True":
        draft.values["seamless"] = bool(said.pop("Tiling"))
    for name, field in (("Model", "model"), ("Model hash", "model_hash")):
        if name in said:
            draft.values[field] = said.pop(name)
    _rest(draft, said)
    return draft.settings()


def _prompts(draft: Draft, prompt: str, negative: str, hashes: str) -> None:
    """The prompts, with the LoRAs that the first names taken out, as the web UI takes them out."""
    pairs = (part.partition(":") for part in hashes.split(","))
    by_name = {
        name.strip(): digest.strip() for name, _, digest in pairs if re.fullmatch(r"\s?[0-9a-fA-F]{4,64}", digest)
    }

    def take(match: re.Match[str]) -> str:
        weights: dict[str, float | None] = {"te": 1.0}
        for place, part in enumerate(match[2].split(":")[1:]):
            key, equals, value = part.rpartition("=")
            key = key.strip() if equals else ("te", "unet", "dyn")[min(place, 2)]
            weights[key] = number(value)
        text = weights.get("te")
        unet = weights.get("unet", text)
        if text is None or unet is None or weights.keys() - {"te", "unet"}:
            draft.omit("LoRA", match[0], "its weights can't be read")
            return ""
        draft.loras.append(NamedLora(name=match[1], weight=unet, text_weight=text, hash=by_name.get(match[1].strip())))
        return ""

    draft.values["prompt"] = _LORA.sub(take, prompt).strip(" ")
    draft.values["negative_prompt"] = negative


def _numbers(draft: Draft, said: dict[str, str]) -> None:
    if "Steps" in said:
        draft.whole("steps", "Steps", said.pop("Steps"))
    if "CFG scale" in said:
        draft.number("guidance_scale", "CFG scale", said.pop("CFG scale"))
    # The web UI counts from 1, the last layer.
    if said.get("Clip skip", "1") != "1" and draft.whole("clip_skip", "Clip skip", said.pop("Clip skip")):
        draft.values["clip_skip"] -= 1
    size = said.pop("Size", None)
    if size is not None:
        for field, side in zip(("width", "height"), _sides(size), strict=True):
            draft.whole(field, "Size", side)


def _noise(draft: Draft, said: dict[str, str]) -> None:
    if "Seed" in said:
        draft.whole("seed", "Seed", said.pop("Seed"))
    rng = said.pop("RNG", "GPU")
    if rng in ("GPU", "NV"):
        draft.values["rng"] = "nv"
    else:
        draft.values["rng"] = "cpu"
        if rng != "CPU":
            draft.omit("RNG", rng, "it is none of GPU, NV and CPU; the CPU's noise is taken")
    strength = said.pop("Variation seed strength", None)
    subseed = said.pop("Variation seed", None)
    if strength is not None and draft.whole("subseed", "Variation seed", subseed) is not None:
        draft.number("subseed_strength", "Variation seed strength", strength)
    resize = said.pop("Seed resize from", None)
    if resize is not None:
        sides = [side for side in _sides(resize) if re.fullmatch(r"[0-9]{1,6}", side) and int(side) >= 8]
        if len(sides) == 2:
            draft.values["seed_resize"] = (int(sides[0]), int(sides[1]))
        elif resize not in ("0x0", "-1x-1"):
            draft.omit("Seed resize from", resize, "it is no size")
    if "ENSD" in said:
        draft.whole("eta_noise_seed_delta", "ENSD", said.pop("ENSD"))


def _sampler(draft: Draft, said: dict[str, str]) -> None:
    """Sampler, schedule and their numbers."""
    given, schedule = said.pop("Sampler", None), said.pop("Schedule type", None)
    if given is None:
        if schedule is not None:
            draft.omit("Schedule type", schedule, "no sampler is named")
        return
    sampler, joined = given.strip(), None
    if (ending := sampler.rpartition(" "))[2] in JOINED:
        sampler, joined = ending[0], ending[2]
    draft.values["sampler"] = sampler
    if schedule is None and joined is None and _is_older_than(draft.values["version"], (1, 9)):
        schedule = "DDIM" if AUTOMATIC.get(sampler) == "ddim" else "Uniform"
    schedule = (joined or "Automatic") if schedule in (None, "Automatic") else schedule
    if schedule == "Automatic":
        draft.values["schedule"] = AUTOMATIC.get(sampler, "uniform")
    else:
        draft.values["schedule"] = "_".join(schedule.lower().split())
    for name in ("Eta DDIM", "Eta"):
        if name in said and sampler == "DDIM":
            draft.number("eta", name, said.pop(name))
    sampling: dict[str, float] = {}
    for name, option in SCHEDULE_SETTINGS.items():
        value = said.pop(name, None)
        if value is None:
            continue
        if (read := number(value)) is None:
            draft.omit(name, value, "it is no number")
        elif read != _USUAL[option]:
            sampling[option] = read
    draft.values["sampling"] = sampling


def _guidance(draft: Draft, said: dict[str, str]) -> None:
    """Rescaling, the steps that are not guided, perturbed attention and FreeU."""
    for name, option in _GUIDANCE.items():
        if name in said:
            draft.guidance(option, name, said.pop(name))
    if (skipped := said.pop("Skip Early CFG", None)) is not None:
        share = number(skipped)
        if share is None or not 0 <= share < 1 - _NEXT_SHARE:
            draft.omit("Skip Early CFG", skipped, "it is no share of the steps that leaves some")
        elif share:
            draft.guide("guidance_interval", [round(share + _NEXT_SHARE, 6), 1.0])
    factors = dict(_FREEU.findall(said.get("FreeU", "")))
    if len(factors) == 4:
        draft.guide("freeu", {name: float(value) for name, value in factors.items()})
        said.pop("FreeU")


def _emphasis(draft: Draft, said: dict[str, str]) -> None:
    """How weights are reckoned: without regard to the mean, or not at all, where the prompts then say nothing else."""
    way, texts = said.get("Emphasis"), f"{draft.values['prompt']}\n{draft.values['negative_prompt']}"
    if way == NO_NORM:
        draft.values["emphasis"] = "a1111_no_norm"
    elif way in ("None", "Ignore") and not re.search(r"[()\[\]\\]", texts):
        pass  # there are no weights
    elif way == "None" and not _SAYS_MORE.search(texts):
        draft.values["emphasis"] = "none"  # brackets are words
    else:
        return
    said.pop("Emphasis")


def _rest(draft: Draft, said: dict[str, str]) -> None:
    """Name what was not carried over."""
    hires = any(name.startswith("Hires") for name in said)
    for name, value in said.items():
        base = re.sub(r"-[12]$", "", name)
        if name in IRRELEVANT or value in NEUTRAL.get(name, ()) or (base != name and base in said):
            continue
        why = next((why for start, why in STARTS.items() if name.startswith(start)), WHY.get(name, NOT_KNOWN))
        draft.omit(name, value, SECOND_PASS if hires and name == "Denoising strength" else why)


def _sides(size: str) -> tuple[str, str]:
    width, _, height = size.partition("x")
    return width, height


def _is_older_than(version: str | None, than: tuple[int, int]) -> bool:
    """Whether a version of the web UI is an older one: those that don't say theirs are."""
    if version is None:
        return True
    match = _VERSION.match(version)
    return match is not None and (int(match[1]), int(match[2])) < than
