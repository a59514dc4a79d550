"""A run that is killed goes on to the very same weights; one that can't go on says why."""

import json
from pathlib import Path

import pytest
import torch

from sfumato.errors import DataError, OutputError, TrainingError
from sfumato.training import base, vae
from sfumato.training.run import RunFolder


class Killed(Exception):
    """Stands for the process being killed."""


def killed_after(lines: int):
    """A progress callback that kills the run when it has been told so many lines."""
    told = []

    def progress(line: str) -> None:
        told.append(line)
        if len(told) == lines:
            raise Killed

    return progress


def vae_config(folder: Path, data: Path, **changes: str) -> Path:
    settings = {
        "data": f'"{data}"',
        "images": "24",
        "batch": "4",
        "log_every": "1",
        "save_every": "2",
        "show_every": "100",
    } | changes
    text = "\n".join(f"{k} = {v}" for k, v in settings.items())
    path = folder / "vae.toml"
    path.write_text(
        text
        + "\n[learning_rate]\nwarmup = 8\n[model]\nchannels = [8, 8, 8]\nblocks_per_level = 1\nnorm_groups = 4\nscaling_factor = 1.0\n"
    )
    return path


def base_config(folder: Path, data: Path, vae_run: Path, **changes: str) -> Path:
    settings = {
        "data": f'"{data}"', "vae": f'"{vae_run}"', "images": "12", "batch": "2", "log_every": "1", "save_every": "2",
        "show_every": "100", "prompts": '["apple"]', "prompt_steps": "2",
    } | changes  # fmt: skip
    text = "\n".join(f"{k} = {v}" for k, v in settings.items())
    path = folder / "base.toml"
    path.write_text(
        text + "\n[text]\nwidth = 8\nlayers = 1\nheads = 2\nmax_length = 8\nbase_merges = 0\n"
        "[unet]\nchannels = [8, 8]\nblocks_per_level = 1\nattention = [false, true]\nheads = [2, 2]\ndepth = [1, 1]\n"
        "context_dim = 8\nnorm_groups = 4\nsample_size = 4\n"
    )
    return path


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_weights(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_killed_vae_run_ends_with_the_weights_of_one_that_was_not(tmp_path, toy_data):
    config = vae_config(tmp_path, toy_data)
    vae.train(config, tmp_path / "straight", progress=lambda line: None)
    with pytest.raises(Killed):
        vae.train(config, tmp_path / "killed", progress=killed_after(3))
    assert trained(tmp_path / "killed")["step"] == 2
    vae.train(config, tmp_path / "killed", progress=lambda line: None)
    assert_same_weights(trained(tmp_path / "straight")["weights"], trained(tmp_path / "killed")["weights"])


def test_killed_base_run_ends_with_the_weights_of_one_that_was_not(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae")
    base.train(config, tmp_path / "straight", progress=lambda line: None)
    with pytest.raises(Killed):
        base.train(config, tmp_path / "killed", progress=killed_after(3))
    base.train(config, tmp_path / "killed", progress=lambda line: None)
    straight, killed = trained(tmp_path / "straight"), trained(tmp_path / "killed")
    assert straight["step"] == killed["step"] == 6
    assert_same_weights(straight["weights"], killed["weights"])
    assert_same_weights(straight["average"], killed["average"])
    assert any((straight["weights"][name] != straight["average"][name]).any() for name in straight["weights"])
    assert list((tmp_path / "straight" / "sheets").iterdir())


def test_decoder_only_leaves_the_encoder_alone(tmp_path, toy_data):
    first = vae.train(vae_config(tmp_path, toy_data, images="8"), tmp_path / "first", progress=lambda line: None)
    config = vae_config(
        tmp_path, toy_data, start_from=f'"{first.parent}"', decoder_only="true", latent_noise="0.1", images="8"
    )
    second = vae.train(config, tmp_path / "second", progress=lambda line: None)
    before, after = vae.load_vae(first.parent).state_dict(), vae.load_vae(second.parent).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)


def test_start_from_another_shape_is_refused(tmp_path, toy_data):
    first = vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "first", progress=lambda line: None)
    config = vae_config(tmp_path, toy_data, start_from=f'"{first.parent}"')
    config.write_text(config.read_text().replace("[8, 8, 8]", "[8, 8]"))
    with pytest.raises(TrainingError, match="make them agree"):
        vae.train(config, tmp_path / "second", progress=lambda line: None)


def test_log_is_one_json_object_a_line(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="8"), tmp_path / "run", progress=lambda line: None)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert rows[-1]["psnr_taught"] > 0


def test_folder_of_another_run_is_refused(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="8"), tmp_path / "run", progress=lambda line: None)
    with pytest.raises(TrainingError, match="differs in seed"):
        vae.train(vae_config(tmp_path, toy_data, images="8", seed="1"), tmp_path / "run", progress=lambda line: None)


def test_a_run_can_be_made_longer(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="8"), tmp_path / "run", progress=lambda line: None)
    vae.train(vae_config(tmp_path, toy_data, images="16"), tmp_path / "run", progress=lambda line: None)
    assert trained(tmp_path / "run")["step"] == 4


def test_damaged_checkpoint_is_said(tmp_path, toy_data):
    config = vae_config(tmp_path, toy_data)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="delete it to begin"):
        vae.train(config, tmp_path / "run")


def test_missing_data_and_missing_vae_are_said(tmp_path, toy_data):
    with pytest.raises(DataError, match="sfumato data build"):
        vae.train(vae_config(tmp_path, tmp_path / "none.safetensors"), tmp_path / "run")
    with pytest.raises(TrainingError, match="sfumato train vae"):
        base.train(base_config(tmp_path, toy_data, tmp_path / "no-vae"), tmp_path / "run")


def test_run_folder_that_can_not_be_written_is_said(tmp_path, toy_data, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be made"):
        vae.train(vae_config(tmp_path, toy_data), tmp_path / "file" / "run")

    def full(*_: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="disk full"):
        vae.train(vae_config(tmp_path, toy_data), tmp_path / "run", progress=lambda line: None)


def test_nothing_half_written_is_taken_for_a_checkpoint(tmp_path, toy_data):
    config = vae.read_config(vae_config(tmp_path, toy_data), vae.VAETrainConfig)
    folder = RunFolder(tmp_path / "run", config)
    (folder.path / "checkpoint.pt.tmp").write_bytes(b"half")
    assert folder.load() is None
