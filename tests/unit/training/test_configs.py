"""The package's own configs: their sizes are what their comments say, and cut down they run."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.models import AutoencoderKL, CLIPTextEncoder, UNet
from sfumato.text import Tokenizer
from sfumato.training import base, vae
from sfumato.training.base_config import BaseTrainConfig, NoiseLevels
from sfumato.training.config import RunConfig, read_config
from sfumato.training.tokens import text_config
from sfumato.training.vae import VAETrainConfig

from .conftest import write_toy_dataset

AUTOENCODERS = ("vae-64", "decoder-64", "vae-256")
BASES = ("base-64", "base-256")
WORDS = 7300  # tokens that the real model's captions need, and some hundreds to spare
PACKAGE_BYTES = 60e6


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def real(name: str) -> tuple[AutoencoderKL, UNet, CLIPTextEncoder, BaseTrainConfig]:
    """The networks of a pair of configs, without their weights."""
    autoencoder, config = read_config(f"vae-{name}", VAETrainConfig), read_config(f"base-{name}", BaseTrainConfig)
    with torch.device("meta"):
        text = replace(text_config(config.text, Tokenizer.bundled_clip()), vocab_size=WORDS)
        return AutoencoderKL(autoencoder.model), UNet(config.unet), CLIPTextEncoder(text), config


@pytest.mark.parametrize("name", ["64", "256"])
def test_autoencoder_and_base_fit_each_other(name):
    autoencoder, unet, text, config = real(name)
    side = autoencoder.config.sample_size
    assert side == int(name)
    latents = autoencoder.encode(torch.empty(1, 3, side, side, device="meta")).mode()
    assert latents.shape[1:] == (config.unet.in_channels, config.unet.sample_size, config.unet.sample_size)
    context = text(torch.empty(1, config.text.max_length, dtype=torch.long, device="meta")).hidden
    assert unet(latents, torch.empty(1, device="meta"), context).shape == latents.shape
    assert autoencoder.decode(latents).shape == (1, 3, side, side)


def test_the_real_model_is_as_large_as_is_said():
    autoencoder, unet, text, _ = real("256")
    assert autoencoder.scale == 8
    assert millions(autoencoder) == pytest.approx(4.6, abs=0.1)
    assert millions(unet) == pytest.approx(20.4, abs=0.1)
    assert 20 < millions(unet) + millions(text) < 30
    # Half precision, two bytes a weight; names and shapes are some 100 kB more.
    assert 2e6 * sum(map(millions, (autoencoder, unet, text))) < PACKAGE_BYTES - 5e5


@pytest.mark.parametrize("name", [*AUTOENCODERS, *BASES])
def test_configs_are_for_the_art_that_is_built(name):
    config: Any = read_config(name, VAETrainConfig if name in AUTOENCODERS else BaseTrainConfig)
    assert config.data.startswith(f"runs/data/art-{name.split('-')[1]}")
    given = config.vae if name in BASES else config.start_from
    assert given == (None if name in ("vae-64", "vae-256") else f"runs/vae-{name.split('-')[1]}")


def test_the_next_run_goes_on_from_the_real_model_and_its_decoder_beside_it():
    decoder, config = read_config("decoder-256", VAETrainConfig), read_config("third-256", BaseTrainConfig)
    first, before = read_config("vae-256", VAETrainConfig), read_config("further-256", BaseTrainConfig)
    assert decoder.start_from == config.start_from == "runs/bundled-256"
    # The latents stay what they are, so neither has to wait for the other.
    assert decoder.decoder_only
    assert config.vae is None
    assert (decoder.model, decoder.data) == (first.model, first.data)
    assert (config.unet, config.text, config.noise, config.data) == (
        before.unet,
        before.text,
        before.noise,
        before.data,
    )
    # It is drawn at this size alone, so none of the run is at another.
    assert config.halved == 0
    assert config.mix.two > before.mix.two
    assert decoder.workers + config.workers < 16


@pytest.mark.parametrize("name", ["vae-256", "base-256"])
def test_long_runs_end_by_the_clock_and_save_often(name):
    config: Any = read_config(name, VAETrainConfig if name in AUTOENCODERS else BaseTrainConfig)
    assert 0 < config.minutes <= 25
    assert config.precision == "bfloat16"
    # A checkpoint every minute or three, at the rate the comment expects: what a machine that goes away takes with it.
    expected = {"vae-256": 500, "base-256": 4000}[name]
    assert config.save_every * config.batch / expected < 180
    assert config.images > 60 * config.minutes * 2 * expected


def toml(config: RunConfig) -> str:
    """A config as it is written in a file."""

    def table(values: dict[str, Any], path: str) -> str:
        plain = {k: v for k, v in values.items() if v is not None and not isinstance(v, dict)}
        lines = [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
        inner = [table(v, f"{path}{k}.") for k, v in values.items() if isinstance(v, dict)]
        return "\n".join([*([f"[{path[:-1]}]"] if path else []), *lines, *inner])

    return table(asdict(config), "")


def cut(config: Any, **changes: Any) -> Any:
    """The same run on a toy's scale: few pictures, no compiler, the same precision and order of things."""
    return replace(config, compile=False, workers=0, device="cpu", log_every=1, save_every=2, show_every=2, **changes)


@pytest.mark.parametrize("name", ["64", "256"])
def test_configs_run_cut_to_a_toy(name, tmp_path: Path):
    side = 64  # the least whose halves have latents for three levels
    data = write_toy_dataset(tmp_path / "art.safetensors", side)
    full = read_config(f"vae-{name}", VAETrainConfig)
    sizes = {"channels": (8,) * len(full.model.channels), "norm_groups": 4, "sample_size": side}
    small = cut(full, data=str(data), batch=4, images=16, model=replace(full.model, **sizes))
    (tmp_path / "vae.toml").write_text(toml(small))
    assert read_config(tmp_path / "vae.toml", VAETrainConfig) == small
    vae.train(tmp_path / "vae.toml", tmp_path / "vae", progress=lambda line: None)

    scale = 2 ** (len(full.model.channels) - 1)
    whole = read_config(f"base-{name}", BaseTrainConfig)
    levels = len(whole.unet.channels)
    unet = replace(
        whole.unet,
        channels=(8,) * levels,
        heads=(2,) * levels,
        norm_groups=4,
        text_heads=whole.unet.text_heads and 2,
        context_dim=8,
        sample_size=side // scale,
    )
    text = replace(whole.text, width=8, heads=2, base_merges=0)
    small = cut(
        whole, data=str(data), vae=str(tmp_path / "vae"), unet=unet, text=text, batch=4, images=16, scenes=8,
        prompts=("apple",), prompt_steps=2,
    )  # fmt: skip
    (tmp_path / "base.toml").write_text(toml(small))
    assert read_config(tmp_path / "base.toml", BaseTrainConfig) == small
    base.train(tmp_path / "base.toml", tmp_path / "base", progress=lambda line: None)
    run = base.load_base(tmp_path / "base.toml", tmp_path / "base")
    assert run.step == 4
    rows = [json.loads(line) for line in (tmp_path / "base" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert len(list((tmp_path / "base" / "sheets").iterdir())) == 2


def test_larger_latents_are_trained_on_higher_levels():
    small, large = (read_config(f"base-{size}", BaseTrainConfig).noise for size in ("64", "256"))
    for noise in (small, large):
        assert noise.schedule().sigmas[-1] == NoiseLevels().schedule().sigmas[-1]
    assert large.log_mean > small.log_mean


def test_the_run_of_the_model_in_the_package_can_be_taken_again():
    autoencoder = read_config("interim-vae-64", VAETrainConfig)
    config = read_config("interim-base-64", BaseTrainConfig)
    assert autoencoder.data == config.data
    assert config.start_from is not None
    assert config.unet.sample_size * 4 == autoencoder.model.sample_size
