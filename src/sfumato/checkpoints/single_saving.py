"""Writing a model as one file in the layout of latent diffusion, which most programs read."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.checkpoints import diffusers_layout
from sfumato.checkpoints.brought import CONFIGS, TOKENIZER_FILES, metadata_of
from sfumato.checkpoints.card import Card
from sfumato.checkpoints.components import TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, Component
from sfumato.checkpoints.families import detect_family
from sfumato.checkpoints.filling import Change, entries_of
from sfumato.checkpoints.index import INDEX, index_values
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.ldm_layout import TEXT_PREFIXES, UNET_PREFIX, VAE_PREFIX, ldm_unet_keys, ldm_vae_keys
from sfumato.checkpoints.openclip_layout import openclip_text_keys
from sfumato.checkpoints.safetensors_writer import write_safetensors
from sfumato.errors import OptionError, UnsupportedError
from sfumato.files import whole_file
from sfumato.models import AnyUNet, AutoencoderKL, CLIPTextEncoder
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.tokenizer_folder import TokenizerSpec
from sfumato.text.vocabulary import clip_vocabulary
from sfumato.variants import Family

KINDS = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def save_single_file(
    path: Path | str,
    *,
    unet: AnyUNet,
    vae: AutoencoderKL,
    scheduler_config: Mapping[str, Any],
    text_encoder: CLIPTextEncoder | None = None,
    text_encoder_2: CLIPTextEncoder | None = None,
    tokenizers: Mapping[str, Tokenizer] | None = None,
    family: Family | None = None,
    options: Mapping[str, Any] | None = None,
    card: Card | None = None,
    dtype: torch.dtype | None = None,
    change: Change | None = None,
    overwrite: bool = False,
) -> None:
    """Save a model as safetensors in the layout of latent diffusion, one tensor at a time, whole or not at all.

    What the layout has no place for goes into the metadata, from which `open_single_file` takes it: configs, a tokenizer that is not
    CLIP's, the card. `family` is told from the U-Net where it isn't given. `change` is done to each tensor, by the name of its network
    and its own.
    Raises OutputError if the file exists or can't be written, OptionError for a name that does not end in .safetensors,
    UnsupportedError for a network that the layout has no names for.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OptionError(f"{path} is to be one file of a model; give it a name that ends in .safetensors")
    if family is None:
        said = {"prediction": "prediction_type", "spacing": "timestep_spacing"}
        family = detect_family(unet.config, **{name: scheduler_config.get(key) for name, key in said.items()}).family
    encoders = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    networks: dict[str, nn.Module] = {"unet": unet, "vae": vae}
    networks |= {name: encoder for name, encoder in encoders.items() if encoder is not None}
    keys = KeyMap.together([ldm_keys(name, network, family) for name, network in networks.items()])
    tensors = nn.ModuleDict(networks).state_dict()
    try:
        entries = list(entries_of(tensors, keys, dtype, change))
    except KeyError as error:
        raise UnsupportedError(
            f"the layout of single files has no place for the tensor {error.args[0]}; save the model as a folder (layout diffusers)"
        ) from None
    small = configs_of(networks, family, scheduler_config, options or {})
    small |= {name: contents.decode() for name, contents in (card or Card()).files().items()}
    for name, tokenizer in (tokenizers or {}).items():
        small |= tokenizer_files(name, tokenizer, family)
    with whole_file(path, overwrite=overwrite) as file:
        write_safetensors(file, entries, {"format": "pt", **metadata_of(small)})


def ldm_keys(name: str, network: nn.Module, family: Family) -> KeyMap:
    """The names of one network of a family in a single file; ours begin with the network's."""
    config: Any = network.config
    if name == "unet":
        return ldm_unet_keys(config).under(UNET_PREFIX, name)
    if name == "vae":
        return ldm_vae_keys(config).under(VAE_PREFIX, name)
    prefix = TEXT_PREFIXES[family.make].get(name)
    if prefix is None:
        raise UnsupportedError(f"{family.title} has no {name}, so a single file of it has no place for one")
    keys = openclip_text_keys if name in family.open_clip else diffusers_layout.text_keys
    return keys(config).under(prefix, name)


def configs_of(
    networks: Mapping[str, nn.Module], family: Family, scheduler: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, str]:
    """The configs of a folder in the diffusers layout, as texts by their paths."""
    components: dict[str, Component[Any, Any]] = {part.name: part for part in (UNET, VAE, TEXT_ENCODER, TEXT_ENCODER_2)}
    values = {name: components[name].write_config(network.config) for name, network in networks.items()}
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": str(scheduler.get("_class_name"))}
    kinds |= {name: KINDS[name] for name in networks if name in KINDS}
    kinds |= {name.replace("text_encoder", "tokenizer"): "CLIPTokenizer" for name in networks if name in KINDS}
    texts = {CONFIGS[name]: config for name, config in values.items()}
    texts |= {CONFIGS["scheduler"]: dict(scheduler), INDEX: index_values(family, kinds, options)}
    return {path: json.dumps(value) for path, value in texts.items()}


def tokenizer_files(name: str, tokenizer: Tokenizer, family: Family) -> dict[str, str]:
    """The files of a tokenizer, as texts by their paths; none of one that every program has for the family."""
    usual = TokenizerSpec(vocabulary=clip_vocabulary(), pad=family.padding.get(name, tokenizer.spec.pad))
    if tokenizer.spec == usual:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save(scratch)
        files = [Path(scratch) / file for file in TOKENIZER_FILES]
        return {f"{name}/{file.name}": file.read_text(encoding="utf-8") for file in files if file.is_file()}
