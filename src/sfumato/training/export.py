"""A finished run as a model folder that anyone opens: the diffusers layout, half precision, and what people need to know to use it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints import save_folder
from sfumato.files import write_whole
from sfumato.training.base import BaseRun, load_base
from sfumato.training.data import read_dataset
from sfumato.training.data.captions import read_vocabulary

SETTINGS = "sfumato.json"
VOCABULARY = "vocabulary.txt"


def listed_names() -> list[str]:
    """What the model is listed as able to draw: the first name of each thing of the vocabulary, in alphabetical order."""
    return sorted({thing.names[0] for thing in read_vocabulary()})


def settings_for(
    run: BaseRun, *, name: str, steps: int, guidance_scale: float, training: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `sfumato.json`: the model's own defaults for a picture, its vocabulary, and how it was trained."""
    side = run.config.unet.sample_size * run.vae.scale
    return {
        "name": name,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "height": side,
        "width": side,
        "vocabulary": VOCABULARY,
        "styles": sorted({record.style for record in read_dataset(run.config.data).records if record.captions}),
        "training": dict(training),
    }


def export(
    config_path: Path | str,
    run_folder: Path | str,
    out: Path | str,
    *,
    decoder_run: Path | str | None = None,
    steps: int = 20,
    guidance_scale: float = 3.0,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write the averaged models of a base run's last checkpoint to the folder `out`, in float16, replacing a model there.

    `decoder_run` is a later run of the autoencoder's decoder alone, whose decoder is taken instead. `notes` are added to the training
    summary in `sfumato.json`. The model's name there is the config's, after "sfumato-".
    Raises TrainingError when the run has no checkpoint, was trained on other inputs than the config's now are, or the decoder's run
    changed the encoder; DataError for the data; OutputError when `out` can't be written.
    """
    run = load_base(config_path, run_folder, decoder_run=decoder_run)
    training = {
        "images": run.step * run.config.batch,
        "steps": run.step,
        "batch": run.config.batch,
        "parameters": sum(p.numel() for module in (run.model, run.vae) for p in module.parameters()),
        **(notes or {}),
    }
    # All that can fail comes before the folder is replaced.
    name = f"sfumato-{Path(config_path).stem}"
    values = settings_for(run, name=name, steps=steps, guidance_scale=guidance_scale, training=training)
    settings = json.dumps(values, indent=2) + "\n"
    vocabulary = "\n".join(listed_names()) + "\n"
    save_folder(
        out,
        unet=run.model.unet,
        vae=run.vae,
        text_encoder=run.model.text_encoder,
        tokenizer_files=run.tokenizer.save,
        scheduler_config=run.config.scheduler_config(),
        dtype=torch.float16,
        overwrite=True,
    )
    out = Path(out)
    write_whole(out / VOCABULARY, vocabulary.encode(), overwrite=True)
    write_whole(out / SETTINGS, settings.encode(), overwrite=True)
    return out
