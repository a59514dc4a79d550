"""Run configs are read strictly, and the learning rate is what they say."""

import pytest

from sfumato.errors import TrainingError
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import LearningRate, config_path, read_config
from sfumato.training.vae import VAETrainConfig


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


BASE = 'images = 10\nbatch = 3\ndata = "art"\n'


def test_read_in_full(tmp_path):
    config = read_config(
        written(
            tmp_path, BASE + "[learning_rate]\npeak = 1\n[model]\nchannels = [8, 16]\nnorm_groups = 4\n[loss]\nkl = 0.5"
        ),
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


VAE_SHAPE = "[model]\nchannels = [8]\nnorm_groups = 4\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("images = -5", "images is -5, expected at least 1"),
        ("batch = 0", "batch is 0, expected at least 1"),
        ("log_every = 0", "log_every is 0, expected at least 1"),
        ("save_every = 0", "save_every is 0, expected at least 1"),
        ("show_every = 0", "show_every is 0, expected at least 1"),
        ("seed = -1", "seed is -1, expected 0 to"),
        ("threads = -1", "threads is -1, expected at least 0"),
        ("workers = -1", "workers is -1, expected at least 0"),
        ("minutes = -1", "minutes is -1.0, expected"),
        ('device = "gpu"', "device is 'gpu', expected one of cpu, cuda, auto"),
        ('precision = "half"', "precision is 'half', expected one of float32, bfloat16"),
        ("mix = { plain = -1 }", "mix: plain is -1.0, expected"),
        ("mix = { grounds = 2 }", "mix: grounds is 2.0, expected a share"),
        ("gradient_clip = -1", "gradient_clip is -1.0, expected"),
        ("weight_decay = nan", "weight_decay is nan, expected"),
        ("focus = 1.5", "focus is 1.5, expected a share"),
        ("latent_noise = -1", "latent_noise is -1.0, expected"),
        ("decoder_only = true", "decoder_only is True, expected start_from"),
        ("learning_rate = { peak = nan }", "learning_rate: peak is nan, expected"),
        ("learning_rate = { warmup = -1 }", "warmup is -1, expected"),
        ("learning_rate = { decay = -1 }", "decay is -1.0, expected a share"),
        ("loss = { kl = inf }", "kl is inf, expected"),
        ("loss = { border = nan }", "border is nan, expected"),
        ("model = { channels = [8, 6], norm_groups = 4 }", "norm_groups is 4, expected a divisor"),
        ("model = { channels = [] }", r"channels is \(\), expected"),
        ("model = { channels = [8], norm_groups = 4, scaling_factor = 0 }", "scaling_factor is 0.0, expected"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, change, message):
    key = change.split(" = ")[0]
    lines = [line for line in BASE.splitlines() if not line.startswith(f"{key} = ")]
    text = "\n".join([*lines, change, *([] if key == "model" else [VAE_SHAPE])])
    with pytest.raises(TrainingError, match=message) as raised:
        read_config(written(tmp_path, text), VAETrainConfig)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("guidance_dropout = 3", "guidance_dropout is 3.0, expected a share"),
        ("average_decay = 2", "average_decay is 2.0, expected"),
        ('scheduler = "Nope"', "unknown scheduler 'Nope'"),
        ("min_snr = 0", "min_snr is 0.0, expected"),
        ("scenes = 0", "scenes is 0, expected at least 1"),
        ("captions = 0", "captions is 0, expected at least 1"),
        ('start_from = "model"', "vae is 'vae', expected a run folder, or start_from in its place"),
        ("prompt_steps = 0", "prompt_steps is 0, expected"),
        ("prompt_guidance = nan", "prompt_guidance is nan, expected"),
        ('noise = { kind = "bad" }', "noise: kind is 'bad', expected one of scaled_linear"),
        ("noise = { beta_end = 2 }", "no noise schedule"),
        ("noise = { uniform = 2 }", "uniform is 2.0, expected a share"),
        ("noise = { log_mean_end = nan }", "log_mean_end is nan, expected a finite"),
        ("noise = { log_std = -1 }", "log_std is -1.0, expected"),
        ("text = { width = 12 }", "unet.context_dim is 8, expected text.width, 12"),
        ("text = { width = 8, heads = 3 }", "heads is 3, expected a divisor of width"),
        ("text = { max_length = 2 }", "max_length is 2, expected"),
        ("unet.heads = [2, 3]", "unet.heads is .* expected a divisor"),
        ("unet.norm_groups = 3", "unet.norm_groups is 3, expected a divisor"),
        ("unet.sample_size = 3", "unet.sample_size is 3, expected a multiple of 2"),
        ("unet.depth = [1]", "disagree on the number of levels"),
        ("unet.out_channels = 3", "unet.out_channels is 3"),
    ],
)
def test_values_out_of_range_of_a_base_run_are_named(tmp_path, change, message):
    settings = {
        "images": "10", "batch": "3", "data": '"art"', "vae": '"vae"', "text": "{ width = 8, heads = 2 }",
        "unet.channels": "[8, 8]", "unet.attention": "[false, true]", "unet.heads": "[2, 2]", "unet.depth": "[1, 1]",
        "unet.context_dim": "8", "unet.norm_groups": "4", "unet.sample_size": "4",
    }  # fmt: skip
    path = written(tmp_path, "\n".join(f"{key} = {value}" for key, value in settings.items()))
    assert read_config(path, BaseTrainConfig).unet.channels == (8, 8)
    key, _, value = change.partition(" = ")
    path = written(tmp_path, "\n".join(f"{k} = {v}" for k, v in (settings | {key: value}).items()))
    with pytest.raises(TrainingError, match=message) as raised:
        read_config(path, BaseTrainConfig)
    assert "\n" not in str(raised.value)


def test_only_bare_names_are_the_packages_own(tmp_path):
    assert config_path("vae-64").parent.name == "configs"
    for path in ("/nowhere/vae-64", "./vae-64", tmp_path / "vae-64"):
        with pytest.raises(TrainingError, match="no run config at"):
            config_path(path)


def test_missing_config_lists_the_packages_own():
    with pytest.raises(
        TrainingError,
        match="base-256, base-64, decoder-256, decoder-64, further-256, interim-base-64, interim-further-64, interim-third-64, "
        "interim-vae-64, third-256, vae-256, vae-64, wordings-256",
    ):
        config_path("nothing")


def test_the_packages_own_configs_are_valid():
    assert read_config("vae-64", VAETrainConfig).model.channels == (32, 64, 128)
    assert read_config("decoder-64", VAETrainConfig).decoder_only
    assert read_config("base-64", BaseTrainConfig).unet.sample_size == 16


def test_learning_rate_rises_holds_and_falls_to_zero():
    rate = LearningRate(peak=2.0, warmup=10, decay=0.5)
    assert [rate.at(i, i / 100) for i in (0, 5, 10, 50, 75, 100)] == [0.0, 1.0, 2.0, 2.0, 1.0, 0.0]
    # By the clock a run may be further than by its images.
    assert rate.at(50, 0.75) == 1.0
    assert LearningRate(peak=2.0, warmup=0, decay=0.0).at(99, 0.99) == 2.0
