"""A run that is killed goes on to the very same weights; one that can't go on says why."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.errors import DataError, OutputError, TrainingError
from sfumato.training import base, vae
from sfumato.training.data.pack import read_dataset, write_dataset
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.export import export, write_model
from sfumato.training.run import RunFolder
from sfumato.training.storage import weights_sha256


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
        "data": f'"{data}"', "images": "24", "batch": "4", "log_every": "1", "save_every": "2", "show_every": "100",
    } | changes  # fmt: skip
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
        "show_every": "100", "prompts": '["apple"]', "prompt_steps": "2", "scenes": "6", "captions": "2",
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


@pytest.mark.parametrize("changes", [{}, {"halved": "0.5", "optimizer": '"muon"'}], ids=["plain", "halved"])
def test_killed_base_run_ends_with_the_weights_of_one_that_was_not(tmp_path, toy_data, changes):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae", **changes)
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


def test_run_is_given_at_each_checkpoint_and_once_more_when_it_was_at_its_end(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae")
    given: list[base.BaseRun] = []
    base.train(config, tmp_path / "base", at_checkpoint=given.append, progress=lambda line: None)
    assert [run.step for run in given] == [2, 4, 6]
    last = given[-1]
    assert_same_weights(dict(last.model.state_dict()), trained(tmp_path / "base")["average"])
    read = base.load_base(config, tmp_path / "base")
    assert last.tokenizer.spec == read.tokenizer.spec
    assert_same_weights(dict(last.vae.state_dict()), dict(read.vae.state_dict()))
    base.train(config, tmp_path / "base", at_checkpoint=given.append, progress=lambda line: None)
    assert [run.step for run in given] == [2, 4, 6, 6]
    # Written from the run, the model is the one that is exported.
    one, other = write_model(given[-1], tmp_path / "one", config), export(config, tmp_path / "base", tmp_path / "other")
    files = {path.relative_to(one): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()}


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
    before = trained(tmp_path / "run")
    vae.train(vae_config(tmp_path, toy_data, images="16"), tmp_path / "run", progress=lambda line: None)
    after = trained(tmp_path / "run")
    assert (before["step"], after["step"]) == (2, 4)
    assert all(not torch.equal(before["weights"][name], after["weights"][name]) for name in before["weights"])


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
    assert folder.begin() is None
    (folder.path / "checkpoint.pt.tmp").write_bytes(b"half")
    assert folder.load() is None


def test_two_processes_do_not_train_in_one_folder(tmp_path, toy_data):
    config = vae_config(tmp_path, toy_data, images="4")
    begin = (
        "import sys, time; from sfumato.training import vae; from sfumato.training.run import RunFolder;"
        "folder = RunFolder(sys.argv[2], vae.read_config(sys.argv[1], vae.VAETrainConfig)); folder.begin();"
        "print('begun', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", begin, config, tmp_path / "run"], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        with pytest.raises(TrainingError, match="another process trains in"):
            vae.train(config, tmp_path / "run", progress=lambda line: None)
    finally:
        other.kill()
        other.communicate()
    vae.train(config, tmp_path / "run", progress=lambda line: None)  # killed, it holds the folder no longer


def test_checkpoint_is_bound_to_the_dataset_it_was_made_with(tmp_path, toy_data):
    config = vae_config(tmp_path, toy_data, images="4")
    vae.train(config, tmp_path / "run", progress=lambda line: None)
    vae.train(config, tmp_path / "run", progress=lambda line: None)  # the same: it goes on
    data = read_dataset(toy_data)
    write_dataset(toy_data, list(data.pixels[:, ::-1].copy()), data.records)
    with pytest.raises(TrainingError, match="inputs differs in dataset"):
        vae.train(config, tmp_path / "run", progress=lambda line: None)


def test_base_run_is_bound_to_its_autoencoder_and_vocabulary(tmp_path, toy_data):
    vae_run, base_run = tmp_path / "vae", tmp_path / "base"
    vae.train(vae_config(tmp_path, toy_data, images="4"), vae_run, progress=lambda line: None)
    config = base_config(tmp_path, toy_data, vae_run, images="4")
    base.train(config, base_run, progress=lambda line: None)
    first = (vae_run / "vae.pt").read_bytes()
    vae.train(vae_config(tmp_path, toy_data, images="8"), vae_run, progress=lambda line: None)
    for use in (base.load_base, lambda *paths: base.train(*paths, progress=lambda line: None)):
        with pytest.raises(TrainingError, match="inputs differs in autoencoder"):
            use(config, base_run)
    (vae_run / "vae.pt").write_bytes(first)
    assert base.load_base(config, base_run).step == 2

    data = read_dataset(toy_data)
    write_dataset(
        toy_data, list(data.pixels), [replace(r, names=(*r.names, "zeppelin") if r.names else ()) for r in data.records]
    )
    with pytest.raises(TrainingError, match="inputs differs in dataset"):
        base.load_base(config, base_run)
    # Without the art's own hash, the vocabulary's tells.
    state = trained(base_run)
    del state["inputs"]["dataset"]
    torch.save(state, base_run / "checkpoint.pt")
    for use in (base.load_base, lambda *paths: base.train(*paths, progress=lambda line: None)):
        with pytest.raises(TrainingError, match="inputs differs in vocabulary"):
            use(config, base_run)


def test_checkpoint_without_recorded_inputs_is_taken(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae", images="4")
    file = base.train(config, tmp_path / "base", progress=lambda line: None) / "checkpoint.pt"
    old = torch.load(file, weights_only=True)
    assert old.pop("inputs").keys() == {"autoencoder", "dataset", "vocabulary"}
    torch.save(old, file)
    assert base.load_base(config, tmp_path / "base").step == 2
    base.train(base_config(tmp_path, toy_data, tmp_path / "vae", images="8"), tmp_path / "base", progress=print)
    assert trained(tmp_path / "base")["inputs"].keys() == {"autoencoder", "dataset", "vocabulary"}


def test_reading_a_run_that_is_not_there_leaves_no_folder(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    with pytest.raises(TrainingError, match="train it first"):
        base.load_base(base_config(tmp_path, toy_data, tmp_path / "vae"), tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_config_is_checked_before_scenes_are_made(tmp_path, toy_data, monkeypatch):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    base.train(base_config(tmp_path, toy_data, tmp_path / "vae"), tmp_path / "base", progress=lambda line: None)
    monkeypatch.setattr(base, "scene_set", lambda *_, **__: pytest.fail("scenes were made"))
    monkeypatch.setattr(base, "statistics_of", lambda *_: pytest.fail("scenes were made"))
    with pytest.raises(TrainingError, match="config differs in seed"):
        base.train(base_config(tmp_path, toy_data, tmp_path / "vae", seed="1"), tmp_path / "base")
    config = base_config(tmp_path, toy_data, tmp_path / "vae")
    config.write_text(config.read_text().replace("sample_size = 4", "sample_size = 8"))
    with pytest.raises(TrainingError, match="make them agree"):
        base.train(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_damaged_and_foreign_files_are_said_in_one_line(tmp_path, toy_data):
    finished = vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    whole = finished.read_bytes()
    for bad in (whole[: len(whole) // 2], b""):
        finished.write_bytes(bad)
        with pytest.raises(TrainingError, match=r"vae\.pt can't be read") as raised:
            vae.load_vae(finished.parent)
        assert "\n" not in str(raised.value)
    torch.save({"weights": {}}, finished)
    with pytest.raises(TrainingError, match=r"vae\.pt is no file"):
        vae.load_vae(finished.parent)
    checkpoint = finished.parent / "checkpoint.pt"
    own = trained(finished.parent)
    config = vae_config(tmp_path, toy_data, images="4")
    for foreign, message in (
        (torch.zeros(3), "is no file"),
        ({"state_dict": {}}, "is no file"),
        ({**own, "config": 3}, "config differs in"),
        ({**own, "weights": {"x": torch.zeros(3)}}, "does not fit"),
        ({**own, "optimizer": {}}, "does not fit"),
    ):
        torch.save(foreign, checkpoint)
        with pytest.raises(TrainingError, match=message) as raised:
            vae.train(config, finished.parent)
        assert "\n" not in str(raised.value)


def test_finished_autoencoder_is_written_whole_or_not_at_all(tmp_path, toy_data, monkeypatch):
    config = vae_config(tmp_path, toy_data, images="4")
    finished = vae.train(config, tmp_path / "vae", progress=lambda line: None)
    before = finished.read_bytes()

    def breaks_off(_: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("disk full\nand a trace")

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(OutputError, match="disk full"):
        vae.train(config, tmp_path / "vae", progress=lambda line: None)
    assert finished.read_bytes() == before
    assert not list(finished.parent.glob("*.tmp"))


def test_log_and_sheet_that_can_not_be_written_are_said(tmp_path, toy_data):
    run = tmp_path / "run"
    config = vae_config(tmp_path, toy_data, images="4")
    (run / "log.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"log\.jsonl"):
        vae.train(config, run)
    (run / "log.jsonl").rmdir()
    (run / "sheets").write_text("in the way")
    with pytest.raises(OutputError, match="sheets"):
        vae.train(config, run, progress=lambda line: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_dataset(tmp_path / "file" / "art", [np.zeros((2, 2, 4), np.uint8)], read_dataset(toy_data).records[:1])


def test_checkpoint_in_the_way_of_a_folder_is_said_before_the_work(tmp_path, toy_data):
    (tmp_path / "run" / "checkpoint.pt").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt can't be read"):
        vae.train(vae_config(tmp_path, toy_data), tmp_path / "run")


def test_start_from_names_what_differs(tmp_path, toy_data):
    first = vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "first", progress=lambda line: None)
    config = vae_config(tmp_path, toy_data, start_from=f'"{first.parent}"')
    config.write_text(config.read_text().replace("scaling_factor = 1.0", "scaling_factor = 0.5"))
    with pytest.raises(TrainingError, match="scaling_factor differ"):
        vae.train(config, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_run_goes_on_from_a_model_folder(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    first = base_config(tmp_path, toy_data, tmp_path / "vae").rename(tmp_path / "first.toml")
    base.train(first, tmp_path / "first", progress=lambda line: None)
    model = export(first, tmp_path / "first", tmp_path / "model")
    settings = base_config(tmp_path, toy_data, tmp_path, images="6").read_text()
    config = tmp_path / "further.toml"
    config.write_text(settings.replace(f'vae = "{tmp_path}"', f'start_from = "{model}"'))
    base.train(config, tmp_path / "further", progress=lambda line: None)
    # What it went on from is the model, latents and all.
    assert trained(tmp_path / "further")["inputs"]["autoencoder"] == weights_sha256(vae.load_vae(model))
    before, after = base.load_base(first, tmp_path / "first").model, base.load_base(config, tmp_path / "further").model
    moved = [(a - b).abs().max().item() for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert 0 < max(moved) < 0.05
    assert not (tmp_path / "further" / "scaling.json").exists()


def test_latents_scale_is_measured_once(tmp_path, toy_data, monkeypatch):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae", images="4")
    base.train(config, tmp_path / "base", progress=lambda line: None)
    monkeypatch.setattr(base, "statistics_of", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(SceneMaker, "compose", lambda *_: pytest.fail("composed again"))
    first = base.load_base(config, tmp_path / "base").vae.state_dict()
    base.train(base_config(tmp_path, toy_data, tmp_path / "vae", images="8"), tmp_path / "base", progress=print)
    assert_same_weights(first, base.load_base(config, tmp_path / "base").vae.state_dict())
    monkeypatch.undo()
    (tmp_path / "base" / "scaling.json").write_text("{}")
    assert_same_weights(first, base.load_base(config, tmp_path / "base").vae.state_dict())


def test_checkpoint_without_later_keys_of_the_config_is_taken(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, images="4"), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae", images="4")
    file = base.train(config, tmp_path / "base", progress=lambda line: None) / "checkpoint.pt"
    old = torch.load(file, weights_only=True)
    del old["config"]["min_snr"], old["config"]["noise"]["log_mean_end"], old["seconds"]
    torch.save(old, file)
    assert base.load_base(config, tmp_path / "base").step == 2
    del old["config"]["scenes"]  # which this run has set
    torch.save(old, file)
    with pytest.raises(TrainingError, match="config differs in scenes"):
        base.load_base(config, tmp_path / "base")


def test_runs_compute_in_bfloat16_and_keep_their_weights_exact(tmp_path, toy_data):
    vae.train(vae_config(tmp_path, toy_data, precision='"bfloat16"'), tmp_path / "vae", progress=lambda line: None)
    config = base_config(tmp_path, toy_data, tmp_path / "vae", precision='"bfloat16"')
    base.train(config, tmp_path / "base", progress=lambda line: None)
    for run in ("vae", "base"):
        state = trained(tmp_path / run)
        kept = [*state["weights"].values(), *(v for s in state["optimizer"]["state"].values() for v in s.values())]
        assert {tensor.dtype for tensor in kept} == {torch.float32}
    exact = base_config(tmp_path, toy_data, tmp_path / "vae", precision='"float32"')
    with pytest.raises(TrainingError, match="config differs in precision"):
        base.train(exact, tmp_path / "base", progress=lambda line: None)


def test_scenes_composed_by_processes_are_the_same(tmp_path, toy_data):
    alone, pooled = tmp_path / "alone", tmp_path / "pooled"
    vae.train(vae_config(tmp_path, toy_data, images="8"), alone, progress=lambda line: None)
    vae.train(vae_config(tmp_path, toy_data, images="8", workers="1"), pooled, progress=lambda line: None)
    assert_same_weights(trained(alone)["weights"], trained(pooled)["weights"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_said(tmp_path, toy_data):
    with pytest.raises(TrainingError, match='device = "auto"'):
        vae.train(vae_config(tmp_path, toy_data, device='"cuda"'), tmp_path / "run")
    vae.train(vae_config(tmp_path, toy_data, images="4", device='"auto"'), tmp_path / "run", progress=lambda line: None)
