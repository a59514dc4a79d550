"""`model_index.json`: which pipeline a folder in the diffusers layout is for, the class of each part, and the pipeline's options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sfumato.checkpoints.options import read_json
from sfumato.errors import CheckpointError, ConfigError, MissingFileError
from sfumato.variants import FAMILIES, Family

INDEX = "model_index.json"

# Pipelines of diffusers that are made of the parts of a family and draw in several ways.
PIPELINES: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *(family.pipeline for family in FAMILIES.values()),
            "StableDiffusionImg2ImgPipeline",
            "LatentConsistencyModelImg2ImgPipeline",
        )
    )
)

# Classes that an index may name for each part; None for any: of schedulers `sfumato.schedulers` knows which, the feature extractor
# goes by its config whatever it is called.
CLASSES: dict[str, tuple[str, ...] | None] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection", "CLIPTextModel"),
    "safety_checker": ("StableDiffusionSafetyChecker",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "feature_extractor": None,
    "scheduler": None,
    "low_res_scheduler": None,
}
# Parts that are for what Sfumato does not do: seeing a picture prompt, estimating depth, marking pictures. They are left alone.
UNREAD = ("image_encoder", "depth_estimator", "watermarker")

OPTIONS: dict[str, type] = {
    "force_zeros_for_empty_prompt": bool,
    "requires_aesthetics_score": bool,
    "requires_safety_checker": bool,
    "max_noise_level": int,
}
"""Options of pipelines that are read, and kept when a model is saved."""

# What the class of each pipeline is made of, besides a U-Net, an autoencoder and a scheduler.
_TEXT = ("text_encoder", "tokenizer")
_TEXTS = (*_TEXT, "text_encoder_2", "tokenizer_2")
_PLAIN = (*_TEXT, "safety_checker", "feature_extractor")
PARTS: dict[str, tuple[str, ...]] = {
    "StableDiffusionPipeline": _PLAIN,
    "StableDiffusionInpaintPipeline": _PLAIN,
    "StableDiffusionInstructPix2PixPipeline": _PLAIN,
    "LatentConsistencyModelPipeline": _PLAIN,
    "StableDiffusionDepth2ImgPipeline": (*_TEXT, "depth_estimator", "feature_extractor"),
    "StableDiffusionUpscalePipeline": (*_PLAIN, "low_res_scheduler", "watermarker"),
    "StableDiffusionLatentUpscalePipeline": _TEXT,
    "StableDiffusionXLPipeline": (*_TEXTS, "image_encoder", "feature_extractor"),
    "StableDiffusionXLImg2ImgPipeline": (*_TEXTS, "image_encoder", "feature_extractor"),
    "StableDiffusionXLInpaintPipeline": (*_TEXTS, "image_encoder", "feature_extractor"),
    "StableDiffusionXLInstructPix2PixPipeline": _TEXTS,
}
LIBRARIES = {
    "text_encoder": "transformers",
    "text_encoder_2": "transformers",
    "tokenizer": "transformers",
    "tokenizer_2": "transformers",
    "feature_extractor": "transformers",
    "safety_checker": "stable_diffusion",
}
"""Where a part's class is from; from diffusers unless it is listed."""

OLDEST = {False: "0.13.0", True: "0.19.0"}
"""The oldest release of diffusers whose names we write, by whether SDXL's are among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """What an index says.

    pipeline  its class in diffusers
    kinds     the class of each part that is there, by the part's name
    options   of the pipeline, those of OPTIONS that it gives
    unread    parts that it lists and Sfumato leaves alone, with their entries: library and class
    """

    pipeline: str
    kinds: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def read_index(path: Path) -> Index:
    """The index of a model's folder. Raises MissingFileError, CorruptFileError or ConfigError."""
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; expected a folder in the diffusers layout")
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file; expected a folder in the diffusers layout, with a {INDEX}")
    if not (path / INDEX).is_file():
        raise MissingFileError(f"{path} has no {INDEX}; expected a folder in the diffusers layout")
    values = read_json(path / INDEX)
    pipeline = values.get("_class_name")
    if pipeline not in PIPELINES:
        raise ConfigError(f"{path / INDEX}: _class_name is {pipeline!r}; Sfumato opens {', '.join(PIPELINES)}")
    kinds: dict[str, str] = {}
    unread: dict[str, tuple[str, ...]] = {}
    for name, value in values.items():
        if not isinstance(value, list):
            continue  # an option of the pipeline, such as requires_safety_checker
        kind = next(reversed(cast("list[object]", value)), None)
        if kind is None:
            continue  # listed, and not there
        known = CLASSES.get(name, ())
        if not isinstance(kind, str) or (known is not None and kind not in known and name not in UNREAD):
            expected = " or ".join(known) if known else "no such component"
            raise ConfigError(
                f"{path / INDEX}: {name} is {kind!r}, which Sfumato does not implement; expected {expected}"
            )
        if name in UNREAD:
            unread[name] = tuple(map(str, cast("list[object]", value)))
        else:
            kinds[name] = kind
    if "depth_estimator" in unread and "feature_extractor" in kinds:
        unread["feature_extractor"] = ("transformers", kinds.pop("feature_extractor"))  # it prepares pictures for that
    return Index(pipeline=pipeline, kinds=kinds, options=_options(values, path), unread=unread)


def _options(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    given = {name: values[name] for name in OPTIONS if values.get(name) is not None}
    for name, value in given.items():
        if type(value) is not OPTIONS[name]:
            raise ConfigError(f"{path / INDEX}: {name} is {value!r}; expected {OPTIONS[name].__name__}")
    return given


def index_values(family: Family, kinds: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The index of a saved model: for each part, the library and class by which diffusers opens it.

    `kinds` are the classes of the parts that are there; of `options`, those that the pipeline has are written.
    """
    parts = ("unet", "vae", "scheduler", *PARTS[family.pipeline])
    named = {part: [LIBRARIES.get(part, "diffusers"), kinds[part]] if part in kinds else [None, None] for part in parts}
    return {
        "_class_name": family.pipeline,
        "_diffusers_version": OLDEST["text_encoder_2" in parts],
        **dict(sorted(named.items())),
        **{name: options.get(name, default) for name, default in family.options.items()},
    }
