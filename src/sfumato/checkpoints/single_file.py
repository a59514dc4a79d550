"""A model in a single file, as most people have theirs: opened without any other file, and without the network."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.checkpoints import diffusers_layout
from sfumato.checkpoints.brought import Brought
from sfumato.checkpoints.components import TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, Component
from sfumato.checkpoints.contents import Contents, Part, contents_of
from sfumato.checkpoints.families import Detected, detect_family
from sfumato.checkpoints.filling import load_weights
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.ldm_layout import EMA_PREFIX, LEFTOVERS, ema_keys, ldm_unet_keys, ldm_vae_keys
from sfumato.checkpoints.model import LoadedModel, WeightFiles, changed
from sfumato.checkpoints.openclip_layout import openclip_text_keys
from sfumato.checkpoints.sizes import (
    DIFFUSERS,
    DIFFUSERS_VAE,
    LDM,
    LDM_VAE,
    OPENCLIP_LAYER,
    count,
    openclip_sizes,
    transformers_sizes,
    vae_sizes,
)
from sfumato.checkpoints.tensor_file import open_tensors
from sfumato.checkpoints.unets import keys_of, settled_as, sizes_of
from sfumato.checkpoints.unfilled import unfilled
from sfumato.errors import ConfigError, OptionError
from sfumato.models import AnyUNetConfig, CLIPTextConfig, LatentUpscalerConfig, VAEConfig
from sfumato.text.tokenizer_folder import TokenizerSpec
from sfumato.text.vocabulary import clip_vocabulary
from sfumato.variants import FAMILIES, SD1, SD2, SDXL, UPSCALER, Family

logger = logging.getLogger("sfumato")

COMPONENTS: dict[str, Component[Any, Any]] = {part.name: part for part in (UNET, VAE, TEXT_ENCODER, TEXT_ENCODER_2)}
PREDICTIONS = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "sample": "sample",
}
"""What a U-Net predicts, by the words that options, metadata and training configs have for it."""

# A training config of latent diffusion, as people keep it beside its model: one line of it tells what no tensor does.
PARAMETERIZATION = re.compile(r"^\s*parameterization:\s*[\"']?(\w+)", re.MULTILINE)
MOST_CONFIG = 1 << 20
"""Bytes of a training config."""


BY_WIDTH: dict[int, Family] = {768: SD1, 1024: SD2, 1280: SDXL}
"""Whose a text encoder is that lies in a file by itself, by how wide it is. SDXL's first is SD 1's."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of a file beside its tensors, by whoever opens it or by the file; None for nothing."""

    family: str | None = None
    prediction: str | None = None
    zero_snr: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a file: its config, and its names in the file, under its prefix."""

    config: Any
    keys: KeyMap


def open_single_file(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    components: Collection[str] | None = None,
    family: str | None = None,
    prediction_type: str | None = None,
    original_config: Path | str | None = None,
    config: Path | str | None = None,
    averaged: bool = False,
) -> LoadedModel:
    """Open a model file: safetensors or a pickled checkpoint, in the layout of latent diffusion, or one network of diffusers'.

    Networks are in evaluation mode on the CPU, in `dtype` or in that of the file, mapped rather than read. Sizes and family are told
    from names and shapes; where they can't be, `family` says it, `prediction_type` what the U-Net predicts, `original_config` is a
    training config (one of the file's own name is found beside it), and `config` a folder in the diffusers layout whose configs fit.
    `components` names the networks wanted, by default all that are there. `averaged` takes the U-Net's average over training.
    Raises MissingFileError, CorruptFileError, UnsafeFileError, ConfigError, KeyMismatchError, OptionError, or CheckpointError if
    memory does not suffice.
    """
    path = Path(path)
    plan = plan_single_file(
        path, family=family, prediction_type=prediction_type, original_config=original_config, config=config
    )
    if averaged and not plan.contents.averaged:
        raise OptionError(f"{path} holds no averages of training; open it without asking for them")

    wanted = [name for name in plan.networks if components is None or name in components]
    if plan.contents.averaged and not averaged and "unet" in wanted:
        logger.warning(
            "%s also holds its U-Net averaged over training (EMA), which is left alone; extract_ema=True, or --ema, takes it instead",
            path.name,
        )
    before = changed(path)
    model, keys = plan.unfilled(wanted, averaged=averaged)
    meant = f"what it was taken for ({plan.family.title})"
    load_weights(model, [path], keys, dtype, meant=meant)
    networks: dict[str, Any] = {name: network.eval() for name, network in model.items()}
    return LoadedModel(
        path=path,
        detected=plan.detected,
        **networks,
        tokenizers=tokenizers_of(plan.networks, plan.brought, plan.family),
        scheduler_config=plan.brought.scheduler_config or scheduler_of(plan.family, plan.said),
        low_res_scheduler=dict(plan.family.low_res_scheduler) if plan.family.low_res_scheduler else None,
        options=plan.brought.options or plan.family.options,
        card=plan.brought.card,
        layout=plan.contents.layout,
        weights=WeightFiles(path, ((path, before),)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a file is to be opened, from the names and shapes of its tensors: no tensor was read for it."""

    contents: Contents
    detected: Detected
    networks: Mapping[str, Network]
    brought: Brought
    said: Said

    @property
    def family(self) -> Family:
        """The family it belongs to."""
        return self.detected.family

    def unfilled(self, wanted: Sequence[str], *, averaged: bool = False) -> tuple[nn.ModuleDict, KeyMap]:
        """The networks wanted, yet to be filled, and their names in the file; what else such files hold is left over."""
        with unfilled():
            model = nn.ModuleDict({name: COMPONENTS[name].build(self.networks[name].config) for name in wanted})
        maps = {name: self.networks[name].keys for name in wanted}
        left = [part.prefix for name, part in self.contents.parts.items() if name not in wanted and part.prefix]
        if averaged and "unet" in wanted:
            ours = model["unet"].state_dict()
            plain = ldm_unet_keys(self.networks["unet"].config)
            maps["unet"] = ema_keys(plain, ours).under(EMA_PREFIX, "unet")
            left.append(self.contents.parts["unet"].prefix)
        else:
            left.append(EMA_PREFIX)
        return model, KeyMap.together(list(maps.values()), {*LEFTOVERS, *(f"{prefix}." for prefix in left)})


def plan_single_file(
    path: Path,
    *,
    family: str | None = None,
    prediction_type: str | None = None,
    original_config: Path | str | None = None,
    config: Path | str | None = None,
) -> Plan:
    """How a file is to be opened. Options and errors are those of `open_single_file`."""
    with open_tensors(path) as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dict)
        metadata = file.metadata()
    try:
        brought = Brought.of_folder(Path(config)) if config is not None else Brought.of_metadata(metadata)
        contents = text_encoder_alone(contents_of(shapes), shapes)
        said = what_is_said(path, shapes, metadata, family, prediction_type, original_config)
        detected = detect_contents(contents, shapes, brought, said)
        networks = networks_of(contents, shapes, brought, detected.family)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Plan(contents=contents, detected=detected, networks=networks, brought=brought, said=said)


def what_is_said(
    path: Path,
    names: Collection[str],
    metadata: Mapping[str, str],
    family: str | None,
    prediction: str | None,
    original_config: Path | str | None,
) -> Said:
    """What is said of a file beside its tensors: by options first, then by the file itself, then by a training config beside it.

    Raises OptionError for a prediction type that there isn't, or a training config that can't be read.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise OptionError(f"prediction_type is {prediction!r}; expected epsilon, v_prediction or sample")
    if family is not None and family not in FAMILIES:
        raise OptionError(f"there is no family {family!r}; known: {', '.join(FAMILIES)}")
    beside = path.with_suffix(".yaml")
    if original_config is not None:
        beside = Path(original_config)
        if not beside.is_file():
            raise OptionError(
                f"original_config is {str(original_config)!r}, which is no file; give a .yaml on this machine"
            )
    given = prediction or metadata.get("modelspec.prediction_type") or metadata.get("modelspec.predict_key")
    if given is None and "v_pred" in names:
        given = "v"
    if given is None and beside.is_file() and beside.stat().st_size <= MOST_CONFIG:
        line = PARAMETERIZATION.search(beside.read_text(encoding="utf-8", errors="replace"))
        given = line[1] if line else "eps"  # what the code that reads such configs does without
    if given is None and family is not None:
        given = FAMILIES[family].prediction
    return Said(family, PREDICTIONS.get(given) if given else None, zero_snr="ztsnr" in names)


def text_encoder_alone(contents: Contents, shapes: Mapping[str, Sequence[int]]) -> Contents:
    """The contents of a file with a text encoder and nothing else, under the name that its family has for one as wide."""
    family = BY_WIDTH.get(_width_alone(contents, shapes))
    if family is not SDXL:
        return contents
    return replace(contents, parts={"text_encoder_2": next(iter(contents.parts.values()))})


def _width_alone(contents: Contents, shapes: Mapping[str, Sequence[int]]) -> int:
    """How wide a text encoder is that lies in a file by itself; 0 where there is anything else."""
    (part, *more) = contents.parts.items()
    name, place = part
    if more or not name.startswith("text_encoder"):
        return 0
    return next((shape[1] for key, shape in place.inside(shapes).items() if key.endswith("token_embedding.weight")), 0)


def detect_contents(contents: Contents, shapes: Mapping[str, Sequence[int]], brought: Brought, said: Said) -> Detected:
    """The family of a file. Raises ConfigError."""
    unet = contents.parts.get("unet")
    if unet is None:
        found = ", ".join(contents.parts)
        family = FAMILIES[said.family] if said.family else _family_without_unet(contents, shapes)
        return Detected(family, (f"it holds no U-Net, only: {found}", f"taken for a part of {family.title}"))
    config = brought.unet or sizes_of(unet.inside(shapes), LDM if unet.layout == "ldm" else DIFFUSERS)
    scheduler = brought.scheduler_config or {}
    return detect_family(
        config,
        prediction=said.prediction or scheduler.get("prediction_type"),
        spacing=scheduler.get("timestep_spacing"),
        name=said.family,
    )


def _family_without_unet(contents: Contents, shapes: Mapping[str, Sequence[int]]) -> Family:
    """The family that the parts of a file may be of: shapes tell the upscaler's autoencoder and a text encoder alone, layouts others."""
    if (width := _width_alone(contents, shapes)) in BY_WIDTH:
        return BY_WIDTH[width]
    for family in FAMILIES.values():
        if contents.parts.keys() & {"text_encoder", "text_encoder_2"} == family.text_encoders.keys() and all(
            (contents.parts[name].layout == "openclip") == (name in family.open_clip) for name in family.text_encoders
        ):
            return family
    vae = contents.parts.get("vae")
    if vae is not None:
        template = LDM_VAE if vae.layout == "ldm" else DIFFUSERS_VAE
        if vae_sizes(vae.inside(shapes), template, VAEConfig()).channels == UPSCALER.vae.channels:
            return UPSCALER
    return SD1


def networks_of(
    contents: Contents, shapes: Mapping[str, Sequence[int]], brought: Brought, family: Family
) -> dict[str, Network]:
    """The networks of a file, each with its config and names. Raises ConfigError for parts that the family has not."""
    networks: dict[str, Network] = {}
    for name, part in contents.parts.items():
        inside = part.inside(shapes)
        if name == "unet":
            networks[name] = _unet(inside, part, brought, family)
        elif name == "vae":
            networks[name] = _vae(inside, part, brought, family)
        else:
            like = family.text_encoders.get(name)
            if like is None:
                raise ConfigError(
                    f"it has a {name}, which {family.title} has not; expected {' and '.join(family.text_encoders)}"
                )
            networks[name] = _text_encoder(inside, part, brought.text_encoders.get(name), like)
    return {
        name: Network(one.config, one.keys.under(contents.parts[name].prefix, name)) for name, one in networks.items()
    }


def _unet(shapes: Mapping[str, Sequence[int]], part: Part, brought: Brought, family: Family) -> Network:
    names = LDM if part.layout == "ldm" else DIFFUSERS
    config: AnyUNetConfig = brought.unet or settled_as(sizes_of(shapes, names), family)
    if part.layout == "ldm" and isinstance(config, LatentUpscalerConfig):
        raise ConfigError(
            "the config of its U-Net is a latent upscaler's, which its tensors are not; give the config of the same model"
        )
    return Network(config, ldm_unet_keys(config) if part.layout == "ldm" else keys_of(config))


def _vae(shapes: Mapping[str, Sequence[int]], part: Part, brought: Brought, family: Family) -> Network:
    ldm = part.layout == "ldm"
    config: VAEConfig = brought.vae or vae_sizes(shapes, LDM_VAE if ldm else DIFFUSERS_VAE, family.vae)
    return Network(config, ldm_vae_keys(config) if ldm else diffusers_layout.vae_keys(config))


def _text_encoder(
    shapes: Mapping[str, Sequence[int]], part: Part, brought: CLIPTextConfig | None, like: CLIPTextConfig
) -> Network:
    if part.layout == "openclip":
        config = brought or openclip_sizes(shapes, like)
        return Network(config, openclip_text_keys(config, range(config.layers, count(shapes, OPENCLIP_LAYER))))
    config = brought or transformers_sizes(shapes, like)
    return Network(config, diffusers_layout.text_keys(config))


def tokenizers_of(networks: Mapping[str, Network], brought: Brought, family: Family) -> dict[str, TokenizerSpec | Path]:
    """The tokenizers that the text encoders of a file need: those it brings, else CLIP's, which is in the package.

    A text encoder with another vocabulary than CLIP's, and none brought, has none.
    """
    vocabulary = clip_vocabulary()
    tokenizers: dict[str, TokenizerSpec | Path] = {}
    for name, padding in family.padding.items():
        encoder = networks.get(name.replace("tokenizer", "text_encoder"))
        if name in brought.tokenizers:
            tokenizers[name] = brought.tokenizers[name]
        elif encoder is None or encoder.config.vocab_size == len(vocabulary.ids):
            tokenizers[name] = TokenizerSpec(vocabulary=vocabulary, pad=padding)
    return tokenizers


def scheduler_of(family: Family, said: Said) -> dict[str, Any]:
    """The scheduler's config of a family's models, with what is said of this one."""
    config = dict(family.scheduler)
    if said.prediction is not None:
        config["prediction_type"] = said.prediction
    if said.zero_snr:
        config["rescale_betas_zero_snr"] = True
    return config
