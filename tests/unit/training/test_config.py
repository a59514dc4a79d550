"""Run configs are read strictly, and the learning rate is what they say."""

import pytest

from sfumato.errors import TrainingError
from sfumato.training.base import BaseTrainConfig
from sfumato.training.config import LearningRate, config_path, read_config
from sfumato.training.vae import VAETrainConfig


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


BASE = 'images = 10\nbatch = 3\ndata = "art"\n'


def test_read_in_full(tmp_path):
    config = read_config(
        written(tmp_path, BASE + "[learning_rate]\npeak = 1\n[model]\nchannels = [8, 16]\n[loss]\nkl = 0.5"),
        VAETrainConfig,
    )
    assert config.model.channels == (8, 16)
    assert config.learning_rate == LearningRate(peak=1.0)
    assert config.loss.kl == 0.5
    assert config.steps == 4
    assert config.start_from is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "colour = 1\n[model]", "unknown keys colour"),
        (BASE + "[model]\nwidth = 1", "model has unknown keys width"),
        ("batch = 3\n[model]", "lacks data, images"),
        (BASE + "seed = 1.5\n[model]", "seed is 1.5, expected int"),
        (BASE + 'compile = "yes"\n[model]', "compile is 'yes', expected bool"),
        (BASE + "images = \n", "TOML"),
        (BASE + "model = 3", "model is 3, expected VAEConfig"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(TrainingError, match=message):
        read_config(written(tmp_path, text), VAETrainConfig)


def test_missing_config_lists_the_packages_own():
    with pytest.raises(TrainingError, match="base-64, decoder-64, vae-64"):
        config_path("nothing")


def test_the_packages_own_configs_are_valid():
    assert read_config("vae-64", VAETrainConfig).model.channels == (32, 64, 128)
    assert read_config("decoder-64", VAETrainConfig).decoder_only
    assert read_config("base-64", BaseTrainConfig).unet.sample_size == 16


def test_learning_rate_rises_holds_and_falls_to_zero():
    rate = LearningRate(peak=2.0, warmup=10, decay=0.5)
    assert [rate.at(i, 100) for i in (0, 5, 10, 50, 75, 100)] == [0.0, 1.0, 2.0, 2.0, 1.0, 0.0]
