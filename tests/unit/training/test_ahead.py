"""A base run that is started while its autoencoder is still being trained: the same run, made ready meanwhile."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from sfumato.errors import TrainingError
from sfumato.training import ahead as ahead_module
from sfumato.training import base, vae
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import read_config
from sfumato.training.data import read_dataset
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.learner import Learner
from sfumato.training.run import is_under_way

from .test_runs import assert_same_weights, base_config, trained, vae_config


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead_module, "_LOOK_AGAIN", 0.01)


class Trained(threading.Thread):
    """Another process that trains in a run's folder until it is told to end, and leaves what it is given."""

    def __init__(self, folder: Path, left: bytes | None) -> None:
        super().__init__(daemon=True)
        self.folder, self.left = folder, left
        self.begun, self.may_end = threading.Event(), threading.Event()

    def run(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with FileLock(self.folder / "run.lock"):
            self.begun.set()
            self.may_end.wait(60)
            if self.left is not None:
                (self.folder / "vae.pt").write_bytes(self.left)


@pytest.fixture
def autoencoder(tmp_path: Path, toy_data: Path) -> bytes:
    return vae.train(
        vae_config(tmp_path, toy_data, images="4"), tmp_path / "first", progress=lambda line: None
    ).read_bytes()


def started(folder: Path, left: bytes | None) -> Trained:
    other = Trained(folder, left)
    other.start()
    assert other.begun.wait(10)
    return other


def test_run_that_waited_is_the_run_that_did_not(tmp_path, toy_data, autoencoder):
    (tmp_path / "vae").mkdir()
    config = (
        base_config(tmp_path, toy_data, tmp_path / "vae", halved="0.5")
        .read_text()
        .replace("sample_size = 4", "sample_size = 4")
    )
    (tmp_path / "base.toml").write_text(config)
    other = started(tmp_path / "vae", autoencoder)
    told: list[str] = []

    def progress(line: str) -> None:
        told.append(line)
        if line.startswith("waiting"):
            assert is_under_way(tmp_path / "vae")
            assert is_under_way(tmp_path / "waited")  # nobody else begins there meanwhile
            other.may_end.set()

    base.train(tmp_path / "base.toml", tmp_path / "waited", progress=progress)
    other.join()
    assert [line for line in told if line.startswith(("scenes", "waiting"))] == [
        "scenes 6/6", f"waiting for the autoencoder that is being trained in {tmp_path / 'vae'}",
    ]  # fmt: skip
    base.train(tmp_path / "base.toml", tmp_path / "straight", progress=lambda line: None)
    assert_same_weights(trained(tmp_path / "waited")["weights"], trained(tmp_path / "straight")["weights"])
    assert_same_weights(trained(tmp_path / "waited")["average"], trained(tmp_path / "straight")["average"])


@pytest.mark.parametrize("is_there_before", [False, True])
def test_autoencoder_s_run_that_fails_is_told(tmp_path, toy_data, autoencoder, is_there_before):
    (tmp_path / "vae").mkdir()
    if is_there_before:
        (tmp_path / "vae" / "vae.pt").write_bytes(autoencoder)
    other = started(tmp_path / "vae", None)
    with pytest.raises(TrainingError, match="ended without an autoencoder"):
        base.train(
            base_config(tmp_path, toy_data, tmp_path / "vae"), tmp_path / "base",
            progress=lambda line: other.may_end.set() if line.startswith("waiting") else None,
        )  # fmt: skip
    assert not is_under_way(tmp_path / "base")


def test_run_that_has_begun_waits_and_goes_on_from_its_checkpoint(tmp_path, toy_data, autoencoder):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "vae.pt").write_bytes(autoencoder)
    base.train(
        base_config(tmp_path, toy_data, tmp_path / "vae", images="6"), tmp_path / "base", progress=lambda line: None
    )
    other = started(tmp_path / "vae", autoencoder)
    time.sleep(0.02)
    base.train(
        base_config(tmp_path, toy_data, tmp_path / "vae", images="12"), tmp_path / "base",
        progress=lambda line: other.may_end.set() if line.startswith("waiting") else None,
    )  # fmt: skip
    assert trained(tmp_path / "base")["step"] == 6


def test_autoencoder_is_there_when_its_folder_is_free_again(tmp_path, toy_data, monkeypatch):
    held: list[bool] = []
    real = vae.save_tensors

    def save(path: Path, content: dict) -> None:
        held.append(is_under_way(tmp_path / "vae"))
        real(path, content)

    monkeypatch.setattr(vae, "save_tensors", save)
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    assert held == [True]
    assert not is_under_way(tmp_path / "vae")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_can_not_be_looked_into_is_not_under_way(tmp_path):
    (tmp_path / "run.lock").touch()
    tmp_path.chmod(0o500)
    (tmp_path / "run.lock").chmod(0o400)
    assert not is_under_way(tmp_path)


def test_asking_makes_no_folder(tmp_path):
    assert not is_under_way(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_composing_is_given_up_when_the_networks_can_not_be_made(tmp_path, toy_data, monkeypatch):
    taken: list[int] = []

    def endless(*_):
        while len(taken) < 2000:
            taken.append(1)
            time.sleep(0.005)
            yield None

    def fail(*_):
        raise TrainingError("no such device")

    monkeypatch.setattr(ahead_module, "compose_scenes", endless)
    monkeypatch.setattr(ahead_module, "Learner", fail)
    config = read_config(base_config(tmp_path, toy_data, tmp_path / "vae"), BaseTrainConfig)
    maker = SceneMaker(read_dataset(toy_data), config.mix, config.seed)
    with pytest.raises(TrainingError, match="no such device"):
        ahead_module.make_ready(config, maker, torch.device("cpu"), lambda line: None)
    assert len(taken) < 2000


def test_networks_are_compiled_while_scenes_are_composed(tmp_path, toy_data, monkeypatch):
    compiled = threading.Event()
    real = ahead_module.compose_scenes

    def waiting(*arguments):
        for part in real(*arguments):
            assert compiled.wait(30), "the compiler waits for the scenes"
            yield part

    monkeypatch.setattr(ahead_module, "compose_scenes", waiting)
    monkeypatch.setattr(Learner, "warm_up", lambda self, progress: compiled.set())
    config = read_config(base_config(tmp_path, toy_data, tmp_path / "vae"), BaseTrainConfig)
    maker = SceneMaker(read_dataset(toy_data), config.mix, config.seed)
    made = ahead_module.make_ready(config, maker, torch.device("cpu"), lambda line: None)
    assert sum(len(part.captions) for part in made.composed) == len(made.tokens) == config.scenes


def test_an_interrupt_while_networks_are_compiled_ends_the_composing_too(tmp_path, toy_data, monkeypatch):
    begun, interrupted, ended = threading.Event(), threading.Event(), threading.Event()

    def without_end(*_: object):
        try:
            for number in itertools.count():
                yield number
                begun.set()
                interrupted.wait(60)
        finally:
            ended.set()

    def interrupt(*_: object) -> None:
        begun.wait(60)
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(ahead_module, "compose_scenes", without_end)
    monkeypatch.setattr(ahead_module, "Learner", interrupt)
    config = read_config(base_config(tmp_path, toy_data, tmp_path / "vae"), BaseTrainConfig)
    maker = SceneMaker(read_dataset(toy_data), config.mix, config.seed)
    with pytest.raises(KeyboardInterrupt):
        ahead_module.make_ready(config, maker, torch.device("cpu"), lambda line: None)
    assert ended.wait(60)
