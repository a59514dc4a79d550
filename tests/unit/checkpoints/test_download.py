"""Models by name, fetched by the hub's real client from a hub on this machine that answers as the real one does."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from fake_hub import Hub, files_of, serving
from huggingface_hub import constants
from tiny_families import FAMILIES, our_networks, save_tokenizers

from sfumato import StableDiffusionPipeline
from sfumato.checkpoints import fetch, open_folder, save_folder
from sfumato.errors import DownloadError

UNET = "unet/diffusion_pytorch_model.safetensors"
UNREAD = {"README.md": b"# A model", "model.ckpt": b"\0" * 100, "unet/diffusion_pytorch_model.onnx": b"\0" * 100}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder, of which a hub has the files."""
    family, path = FAMILIES["sd1"], tmp_path_factory.mktemp("hub")
    save_tokenizers(family, path)
    save_folder(
        path / "model", **our_networks(family), tokenizer_files=path / "tokenizer", scheduler_config=family.scheduler
    )
    return path / "model"


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    """A hub with a tiny model, to which the hub's client is turned."""
    hub = Hub("owner/tiny")
    hub.commit(files_of(model) | UNREAD, "main", "v1")
    with serving(hub):
        # As HF_ENDPOINT does; it is read when the client is first imported, as HF_HUB_OFFLINE is.
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def test_a_model_by_its_name(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained("owner/tiny", cache_dir=tmp_path)
    weights = pipe.unet.state_dict()
    for name, tensor in open_folder(model).unet.state_dict().items():
        assert torch.equal(weights[name], tensor)
    assert "100%" in capsys.readouterr().err, "the progress of the download"
    assert not set(hub.fetched()) & UNREAD.keys()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("models--")] == ["models--owner--tiny"]

    # Again: what is new is asked, and nothing fetched.
    StableDiffusionPipeline.from_pretrained("owner/tiny", cache_dir=tmp_path)
    assert hub.fetched() == []
    # Without the network: from the cache alone.
    StableDiffusionPipeline.from_pretrained("owner/tiny", cache_dir=tmp_path, local_files_only=True)
    assert hub.asked == []
    hub.down = True
    fetch("owner/tiny", cache_dir=tmp_path)
    with pytest.raises(
        DownloadError, match=r"not in the cache, and the hub can't be reached \(.*503.*\); connect once"
    ):
        fetch("owner/tiny", cache_dir=tmp_path / "other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    fetch("owner/tiny", cache_dir=tmp_path)
    with pytest.raises(DownloadError, match="owner/tiny is not in the cache, and HF_HUB_OFFLINE forbids asking"):
        fetch("owner/tiny", cache_dir=tmp_path / "other")
    with pytest.raises(
        DownloadError, match="at revision 'v9' is not in the cache, and local_files_only forbids asking"
    ):
        fetch("owner/tiny", cache_dir=tmp_path, revision="v9", local_files_only=True)
    assert hub.asked == []


def test_revisions(hub: Hub, model: Path, tmp_path: Path) -> None:
    first = fetch("owner/tiny", cache_dir=tmp_path)
    hub.fetched()
    files = files_of(model)
    scheduler = "scheduler/scheduler_config.json"
    files[scheduler] = files[scheduler].replace(b'"epsilon"', b'"v_prediction"')
    commit = hub.commit(files, "main")
    second = fetch("owner/tiny", cache_dir=tmp_path)
    assert hub.fetched() == [scheduler], "of a new commit, only what has changed"
    assert second.name == commit
    assert fetch("owner/tiny", cache_dir=tmp_path, revision="v1") == first
    assert fetch("owner/tiny", cache_dir=tmp_path, revision=commit) == second
    assert hub.fetched() == []
    assert open_folder(second).scheduler_config["prediction_type"] == "v_prediction"
    assert open_folder(first).scheduler_config["prediction_type"] == "epsilon"
    with pytest.raises(DownloadError, match="owner/tiny has no revision 'v9'; give one of its branches"):
        fetch("owner/tiny", cache_dir=tmp_path, revision="v9")


def test_private_models_and_those_there_are_not(hub: Hub, tmp_path: Path) -> None:
    hub.token = "secret"
    for options in ({}, {"token": "another"}, {"token": False}):
        with pytest.raises(
            DownloadError, match="the hub has no model owner/tiny, or it is private; check the name, or pass a token"
        ):
            fetch("owner/tiny", cache_dir=tmp_path, **options)
    open_folder(fetch("owner/tiny", cache_dir=tmp_path, token="secret"))
    assert hub.leaked == []
    with pytest.raises(DownloadError, match="the hub has no model owner/none"):
        fetch("owner/none", cache_dir=tmp_path, token="secret")


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(
    hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client writes, and takes up again, by pieces of 10 MB.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    contents = (model / UNET).read_bytes()
    hub.breaking = {UNET: len(contents) // 3}
    folder = fetch("owner/tiny", cache_dir=tmp_path)
    assert (folder / UNET).read_bytes() == contents
    ranges = [part for _, path, part in hub.asked if path.startswith("/elsewhere/") and path.endswith(UNET)]
    assert ranges == [None, f"bytes={len(contents) // 3 // 1000 * 1000}-"]
    open_folder(folder)


def test_a_download_that_is_killed_leaves_no_half_file_and_goes_on_with_what_is_missing(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    hub.stalled = {UNET}
    code = f"from sfumato.checkpoints import fetch; fetch('owner/tiny', cache_dir={str(tmp_path)!r})"
    killed = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"},
        stderr=subprocess.DEVNULL,
    )
    assert hub.half_sent.wait(120)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert UNET in hub.fetched()
    assert not list(tmp_path.rglob(f"snapshots/*/{UNET}"))
    with pytest.raises(DownloadError, match="owner/tiny is only in part in the cache, and local_files_only forbids"):
        fetch("owner/tiny", cache_dir=tmp_path, local_files_only=True)

    hub.stalled = set()
    (snapshot,) = tmp_path.rglob("snapshots/*")
    whole = files_of(snapshot).keys()
    folder = fetch("owner/tiny", cache_dir=tmp_path)
    again = hub.fetched()
    assert UNET in again
    assert not whole & set(again), "what was whole is not fetched again"
    assert (folder / UNET).read_bytes() == (model / UNET).read_bytes()
    open_folder(folder)


def test_pickles_and_variants(hub: Hub, model: Path, tmp_path: Path) -> None:
    """Of a component that has only pickles they come, and of one without the variant its other weights: in three questions at most."""
    files = files_of(model)
    files["vae/diffusion_pytorch_model.fp16.safetensors"] = files.pop("vae/diffusion_pytorch_model.safetensors")
    hub.commit(files, "main")
    folder = fetch("owner/tiny", cache_dir=tmp_path, variant="fp16")
    assert (folder / UNET).is_file()
    open_folder(folder, variant="fp16")
    with pytest.raises(DownloadError, match="is not in the cache"):
        fetch("owner/tiny", cache_dir=tmp_path / "other", variant="fp16", local_files_only=True)
    assert fetch("owner/tiny", cache_dir=tmp_path, variant="fp16", local_files_only=True) == folder
