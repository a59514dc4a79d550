"""A run becomes a folder that our own loader opens, with what people need to know beside it."""

import json
import shutil

import pytest
import torch

from sfumato.checkpoints import open_folder
from sfumato.checkpoints.card import SETTINGS, VOCABULARY, WORDS
from sfumato.errors import OutputError, TrainingError
from sfumato.text import Tokenizer
from sfumato.training import base, vae
from sfumato.training.data import read_dataset
from sfumato.training.export import export, listed_names
from sfumato.training.start import MODEL

from .conftest import say_nothing


def test_export_is_the_averaged_run_in_half_precision(finished, tmp_path):
    folder = export(
        finished / "base.toml", finished / "base", tmp_path / "model", steps=7, guidance_scale=2.5, notes={"note": 1}
    )
    model = open_folder(folder)
    run = base.load_base(finished / "base.toml", finished / "base")
    for ours, theirs in (
        (run.model.unet, model.unet),
        (run.model.text_encoder, model.text_encoder),
        (run.vae, model.vae),
    ):
        exported = theirs.state_dict()
        assert all(torch.equal(tensor.half(), exported[name]) for name, tensor in ours.state_dict().items())
    settings = json.loads((folder / SETTINGS).read_text())
    assert (settings["num_inference_steps"], settings["guidance_scale"], settings["height"]) == (7, 2.5, 16)
    assert settings["styles"] == ["3d", "flat"]
    assert settings["training"]["images"] == 4
    assert settings["training"]["note"] == 1
    assert (folder / VOCABULARY).read_text().split("\n")[:-1] == list(listed_names(read_dataset(run.config.data)))
    # Every word of every name and wording is known to the model: none is called unknown.
    known = set((folder / WORDS).read_text().split())
    assert {"apple", "3d", "flat", "background", "on"} <= known
    assert Tokenizer.from_folder(model.tokenizer_dir).encode("apple").ids == run.tokenizer.encode("apple").ids
    assert model.scheduler_config["prediction_type"] == "v_prediction"


def test_export_takes_the_later_decoder_and_keeps_the_latents(finished, tmp_path):
    plain = open_folder(export(finished / "base.toml", finished / "base", tmp_path / "plain")).vae
    later = open_folder(
        export(finished / "base.toml", finished / "base", tmp_path / "later", decoder_run=finished / "decoder")
    ).vae
    pixels = torch.rand(1, 3, 16, 16).half() * 2 - 1
    assert torch.equal(plain.encode(pixels).mean, later.encode(pixels).mean)
    assert not torch.equal(plain.decoder.conv_in.weight, later.decoder.conv_in.weight)


def test_a_model_whose_decoder_is_trained_alone_is_left_whole_with_it(finished, tmp_path):
    start = export(finished / "base.toml", finished / "base", tmp_path / "start", notes={"note": 1})
    alone = f'start_from = "{start}"\ndecoder_only = true\n' + (finished / "vae.toml").read_text()
    (tmp_path / "alone.toml").write_text(alone)
    run = vae.train(tmp_path / "alone.toml", tmp_path / "run", progress=say_nothing).parent
    before, after = open_folder(start), open_folder(run / MODEL)
    learned = vae.load_vae(run).state_dict()
    changed = {"unet": set[str](), "vae": set[str](), "text_encoder": set[str]()}
    for name, names in changed.items():
        weights = after.networks[name].state_dict()
        names |= {key for key, was in before.networks[name].state_dict().items() if not torch.equal(weights[key], was)}
    assert not changed["unet"]
    assert not changed["text_encoder"]
    assert changed["vae"]
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed["vae"])
    assert all(torch.equal(weight, learned[name].half()) for name, weight in after.vae.state_dict().items())
    for file in (SETTINGS, VOCABULARY, WORDS):
        assert (run / MODEL / file).read_bytes() == (start / file).read_bytes()


def test_decoder_run_that_moved_the_encoder_is_refused(finished, tmp_path):
    (tmp_path / "other.toml").write_text("seed = 1\n" + (finished / "vae.toml").read_text())
    vae.train(tmp_path / "other.toml", tmp_path / "other", progress=say_nothing)
    with pytest.raises(TrainingError, match="makes other latents"):
        export(finished / "base.toml", finished / "base", tmp_path / "model", decoder_run=tmp_path / "other")
    decoder = shutil.copytree(finished / "decoder", tmp_path / "decoder")
    state = torch.load(decoder / "vae.pt", weights_only=True)
    state["weights"]["quant_conv.bias"][0] += 1e-6
    torch.save(state, decoder / "vae.pt")
    with pytest.raises(TrainingError, match="makes other latents"):
        export(finished / "base.toml", finished / "base", tmp_path / "model", decoder_run=decoder)
    assert not (tmp_path / "model").exists()


def test_export_is_named_after_its_config_and_says_what_it_can_not_write(finished, tmp_path, monkeypatch):
    config = shutil.copyfile(finished / "base.toml", tmp_path / "tiny-8.toml")
    folder = export(config, finished / "base", tmp_path / "model")
    assert json.loads((folder / SETTINGS).read_text())["name"] == "sfumato-tiny-8"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        export(config, finished / "base", tmp_path / "model")


def test_export_replaces_a_model_and_needs_a_run(finished, tmp_path):
    for _ in range(2):
        export(finished / "base.toml", finished / "base", tmp_path / "model")
    with pytest.raises(TrainingError, match="train it first"):
        export(finished / "base.toml", tmp_path / "nothing", tmp_path / "other")
