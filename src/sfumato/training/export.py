"""A finished run as a model folder that anyone opens: the diffusers layout, half precision, and what people need to know to use it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints import save_folder
from sfumato.training.base import BaseRun, load_base, normalised_vae
from sfumato.training.data import read_dataset
from sfumato.training.data.captions import read_vocabulary

SETTINGS = "sfumato.json"
VOCABULARY = "vocabulary.txt"


def listed_names() -> list[str]:
    """What the model is listed as able to draw: the first name of each thing of the vocabulary, in alphabetical order."""
    return sorted({thing.names[0] for thing in read_vocabulary()})


def settings_for(run: BaseRun, *, steps: int, guidance_scale: float, training: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `sfumato.json`: the model's own defaults for a picture, its vocabulary, and how it was trained."""
    side = run.config.unet.sample_size * run.vae.scale
    return {
        "name": "sfumato-base-64",
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
    summary in `sfumato.json`. Raises TrainingError when the run has no checkpoint, OutputError when `out` can't be written.
    """
    run = load_base(config_path, run_folder)
    # The decoder's run left the encoder as it was, so its latents, normalised, are the ones that the U-Net learned.
    vae = run.vae if decoder_run is None else normalised_vae(decoder_run, read_dataset(run.config.data))
    training = {
        "images": run.step * run.config.batch,
        "steps": run.step,
        "batch": run.config.batch,
        "parameters": sum(p.numel() for module in (run.model, vae) for p in module.parameters()),
        **(notes or {}),
    }
    save_folder(
        out,
        unet=run.model.unet,
        vae=vae,
        text_encoder=run.model.text_encoder,
        tokenizer_files=run.tokenizer.save,
        scheduler_config=run.config.scheduler_config(),
        dtype=torch.float16,
        overwrite=True,
    )
    out = Path(out)
    (out / VOCABULARY).write_text("\n".join(listed_names()) + "\n", encoding="utf-8")
    settings = settings_for(run, steps=steps, guidance_scale=guidance_scale, training=training)
    (out / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return out
