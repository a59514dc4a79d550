"""On a GPU: runs in bfloat16, compiled, fed by processes, that go on from where they were killed."""

import json
from pathlib import Path

import pytest
import torch

from sfumato.checkpoints import open_folder
from sfumato.training import base, vae
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import read_config
from sfumato.training.export import export
from sfumato.training.immiscible import nearest_noise
from sfumato.training.learner import Learner
from sfumato.training.loop import run_steps
from sfumato.training.objective import BaseModel, Batches
from sfumato.training.run import RunFolder
from sfumato.training.scene_set import SceneSet
from sfumato.training.tokens import text_config, tokenizer_for

from .conftest import say_nothing, write_toy_dataset

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

VAE = """
data = "{data}"
images = {images}
batch = 8
device = "{device}"
precision = "{precision}"
compile = {compile}
workers = {workers}
log_every = 2
save_every = 4
show_every = 8
[model]
channels = [16, 16, 16]
blocks_per_level = 1
norm_groups = 4
scaling_factor = 1.0
sample_size = 32
"""
BASE = """
data = "{data}"
vae = "{vae}"
scenes = 24
images = {images}
batch = 8
device = "{device}"
precision = "{precision}"
compile = {compile}
workers = {workers}
immiscible = true
min_snr = 5
prompts = ["apple"]
prompt_steps = 2
log_every = 2
save_every = 4
show_every = 8
[text]
width = 16
layers = 1
heads = 2
max_length = 8
base_merges = 0
[unet]
channels = [16, 16]
blocks_per_level = 1
attention = [false, true]
heads = [2, 2]
depth = [1, 1]
context_dim = 16
norm_groups = 4
sample_size = 8
"""
FAST = {"device": "cuda", "precision": "bfloat16", "compile": "true", "workers": 2}
EXACT = {"device": "cpu", "precision": "float32", "compile": "false", "workers": 0}


def losses(folder: Path) -> list[float]:
    return [r["loss"] for r in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if "loss" in r]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "art.safetensors", 32)


def test_whole_recipe_on_the_gpu_and_on_from_a_checkpoint(data, tmp_path):
    config = tmp_path / "vae.toml"
    for images in (64, 128):  # stopped in between
        config.write_text(VAE.format(data=data, images=images, **FAST))
        vae.train(config, tmp_path / "vae", progress=say_nothing)
    config = tmp_path / "base.toml"
    for images in (64, 128):
        config.write_text(BASE.format(data=data, vae=tmp_path / "vae", images=images, **FAST))
        base.train(config, tmp_path / "base", progress=say_nothing)
    for run in ("vae", "base"):
        state = torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)
        assert state["step"] == 16
        assert all(w.dtype == torch.float32 and torch.isfinite(w).all() for w in state["weights"].values())
        assert all(w.device.type == "cpu" for w in state["weights"].values())
    assert open_folder(export(config, tmp_path / "base", tmp_path / "model")).unet is not None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_learns_the_autoencoder_as_the_cpu_does(data, tmp_path, precision):
    for name, settings in (("cpu", EXACT), ("gpu", FAST | {"precision": precision})):
        (tmp_path / f"{name}.toml").write_text(VAE.format(data=data, images=96, **settings))
        vae.train(tmp_path / f"{name}.toml", tmp_path / name, progress=say_nothing)
    # Other noise, other rounding: the same curve.
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=0.1)


def test_loss_is_the_cpu_s(tmp_path):
    (tmp_path / "base.toml").write_text(BASE.format(data="art", vae="vae", images=8, **EXACT))
    config = read_config(tmp_path / "base.toml", BaseTrainConfig)
    torch.manual_seed(0)
    model = BaseModel(config.unet, text_config(config.text, tokenizer_for(["apple"], config.text)), config.min_snr)
    batch = (
        torch.randn(4, 4, 8, 8),
        torch.randn(4, 4, 8, 8),
        torch.rand(4),
        torch.rand(4) * 999,
        torch.zeros(4, 8).long(),
    )
    expected = model(*batch).item()
    assert model.cuda()(*(part.cuda() for part in batch)).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings(
    "ignore:Synchronization debug mode is a prototype", "ignore:The AccumulateGrad node's stream"
)
@pytest.mark.parametrize("graphs", ["false", "true"])
def test_steps_do_not_wait_for_the_gpu(tmp_path, graphs):
    options = f'optimizer = "muon"\ngraphs = {graphs}'
    (tmp_path / "base.toml").write_text(options + BASE.format(data="art", vae="vae", images=40, **FAST))
    config = read_config(tmp_path / "base.toml", BaseTrainConfig)
    tokenizer = tokenizer_for(["apple"], config.text)
    learner = Learner(config, tokenizer, torch.device("cuda"))
    learner.warm_up(progress=say_nothing)
    batches = Batches(SceneSet(torch.randn(16, 4, 8, 8).half(), (("apple",),) * 16), tokenizer, config, "cuda")
    folder = RunFolder(tmp_path / "run", config)

    def loss_at(step: int) -> torch.Tensor:
        # Every second step takes the order of a pass there, and lines of the log ask for the losses.
        torch.cuda.set_sync_debug_mode("error" if step == 3 else "default")
        return learner.loss(batches(step))

    def after(step: int) -> None:
        learner.average.update(learner.model, step)
        torch.cuda.set_sync_debug_mode("default")

    try:
        with folder.begun():
            run_steps(
                folder,
                learner.optimizer,
                first=0,
                loss_at=loss_at,
                after_step=after,
                state=learner.checkpoint,
                show=lambda _: {},
                progress=say_nothing,
            )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(losses(tmp_path / "run")) == 3


def test_noise_is_assigned_on_the_gpu_as_on_the_cpu():
    latents, noise = torch.randn(64, 4, 8, 8), torch.randn(64, 4, 8, 8)
    here, there = nearest_noise(latents, noise), nearest_noise(latents.cuda(), noise.cuda()).cpu()
    gained = [(latents - n).square().sum().item() for n in (here, there, noise)]
    assert gained[1] == pytest.approx(gained[0], rel=0.01)
    assert gained[1] < gained[2]
