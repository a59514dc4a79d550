"""A finished run as a model folder that anyone opens: the diffusers layout, half precision, and what people need to know to use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints import Card, save_folder
from sfumato.checkpoints.card import VOCABULARY
from sfumato.text.words import collect_words
from sfumato.training.base import BaseRun, load_base
from sfumato.training.data import ArtDataset
from sfumato.training.data.scenes import possible_words_of


def listed_names(data: ArtDataset) -> tuple[str, ...]:
    """What a model taught this art is listed as able to draw: the first name of each thing, in alphabetical order."""
    return tuple(sorted({record.names[0] for record in data.records if record.names}))


def words_taught(data: ArtDataset) -> tuple[str, ...]:
    """Every word that a model taught this art may have read with a meaning: strange words among its captions are none."""
    return collect_words(possible_words_of(data))


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
        "styles": sorted({record.style for record in run.data.records if record.names}),
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
    return write_model(run, out, config_path, steps=steps, guidance_scale=guidance_scale, notes=notes)


def write_model(
    run: BaseRun,
    out: Path | str,
    config_path: Path | str,
    *,
    steps: int = 20,
    guidance_scale: float = 3.0,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run's models as they are to the folder `out`, as `export` does. Raises OutputError when it can't be written."""
    training = {
        "images": run.step * run.config.batch,
        "steps": run.step,
        "batch": run.config.batch,
        "parameters": sum(p.numel() for module in (run.model, run.vae) for p in module.parameters()),
        **(notes or {}),
    }
    name = f"sfumato-{Path(config_path).stem}"
    settings = settings_for(run, name=name, steps=steps, guidance_scale=guidance_scale, training=training)
    card = Card(settings=settings, vocabulary=listed_names(run.data), words=words_taught(run.data))
    save_folder(
        out,
        unet=run.model.unet,
        vae=run.vae,
        text_encoder=run.model.text_encoder,
        tokenizer_files=run.tokenizer.save,
        scheduler_config=run.config.scheduler_config(),
        dtype=torch.float16,
        extra_files=card.files(),
        overwrite=True,
    )
    return Path(out)
