"""Going on from a model that is there: its weights in a text encoder and a U-Net that may have more words, positions and layers."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.checkpoints import open_folder
from sfumato.checkpoints.convert import save_model
from sfumato.errors import TrainingError
from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet
from sfumato.text import Tokenizer

MODEL = "model"
"""Where a run leaves the whole model of which it taught one part, in its folder."""
# What a block adds to its input goes through these last: at zero, a new block changes nothing until it has learned something.
_LAST_OF_LAYER = ("to_out.weight", "to_out.bias", "mlp_out.weight", "mlp_out.bias")
# A part of the U-Net that adds nothing as it is made: one that the model does not have stays so.
_ADDS_NOTHING = "text_embedding."


def is_model(folder: Path | str) -> bool:
    """Whether a folder holds a whole model, rather than a run of training."""
    return (Path(folder) / "model_index.json").is_file()


def autoencoder_of(folder: Path | str) -> AutoencoderKL:
    """The autoencoder of a model folder, in float32. Raises as `open_folder` does."""
    vae = open_folder(folder, dtype=torch.float32, components=("vae",)).vae
    assert vae is not None
    return vae


def write_with(
    folder: Path | str,
    out: Path | str,
    *,
    vae: AutoencoderKL | None = None,
    text_encoder: CLIPTextEncoder | None = None,
) -> None:
    """Write a model with another autoencoder or text encoder as a folder of its own, in the model's precision; the rest stays as it is.

    Raises as `open_folder` does, and OutputError when it can't be written.
    """
    whole = open_folder(folder)
    if vae is not None:
        assert whole.vae is not None
        whole = replace(whole, vae=vae.to(whole.vae.device, whole.vae.dtype))
    if text_encoder is not None:
        assert whole.text_encoder is not None
        whole = replace(whole, text_encoder=text_encoder.to(whole.text_encoder.device, whole.text_encoder.dtype))
    save_model(whole, out, layout="diffusers", overwrite=True)


def take_over(folder: Path | str, unet: UNet, text_encoder: CLIPTextEncoder, tokenizer: Tokenizer) -> None:
    """Fill both networks with a model's weights: words are matched by their spelling, new words and positions stay as they were drawn,
    and a layer that the model does not have, or the pooling of the text, begins as one that changes nothing.

    Raises TrainingError when the model's networks have other sizes, and as `open_folder` does.
    """
    opened = open_folder(folder, dtype=torch.float32, components=("unet", "text_encoder"))
    assert opened.unet is not None
    assert opened.text_encoder is not None
    fresh = {name: weight for name, weight in unet.state_dict().items() if name.startswith(_ADDS_NOTHING)}
    _load(unet, fresh | opened.unet.state_dict(), folder)
    theirs = dict(opened.text_encoder.state_dict())
    ours = text_encoder.state_dict()
    spellings = Tokenizer.from_folder(opened.tokenizer_dir).spec.vocabulary.ids
    words, positions = theirs["token_embedding.weight"], theirs["position_embedding.weight"]
    for name in ("token_embedding.weight", "position_embedding.weight"):
        if theirs[name].shape[1] != ours[name].shape[1]:
            raise TrainingError(_differs(folder, name, theirs[name], ours[name]))
    embedded = ours["token_embedding.weight"].clone()
    for spelling, number in tokenizer.spec.vocabulary.ids.items():
        if spelling in spellings:
            embedded[number] = words[spellings[spelling]]
    placed = ours["position_embedding.weight"].clone()
    shared = min(len(placed), len(positions))
    placed[:shared] = positions[:shared]
    theirs |= {"token_embedding.weight": embedded, "position_embedding.weight": placed}
    for name, weight in ours.items():
        if name not in theirs and name.startswith("layers."):
            theirs[name] = torch.zeros_like(weight) if name.endswith(_LAST_OF_LAYER) else weight
    _load(text_encoder, theirs, folder)


def _load(network: nn.Module, weights: dict[str, Tensor], folder: Path | str) -> None:
    ours = network.state_dict()
    for name in sorted(ours.keys() | weights.keys()):
        if name not in weights or name not in ours or weights[name].shape != ours[name].shape:
            raise TrainingError(_differs(folder, name, weights.get(name), ours.get(name)))
    network.load_state_dict(weights)


def _differs(folder: Path | str, name: str, theirs: Tensor | None, ours: Tensor | None) -> str:
    there, here = ("none" if weight is None else str(tuple(weight.shape)) for weight in (theirs, ours))
    return f"the model in {folder} has {name} of shape {there}, the config's is {here}; make them agree, or leave start_from out."
