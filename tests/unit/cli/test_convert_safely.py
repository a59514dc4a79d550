"""Converting and merging that fails, is interrupted or killed: nothing half-written, and no model that was there is lost."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_families import FAMILIES, our_networks

from sfumato.checkpoints.convert import open_model, save_model
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.cli.app import run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("safely") / "model.safetensors"
    save_single_file(path, **our_networks(FAMILIES["sd1"]), scheduler_config=FAMILIES["sd1"].scheduler)
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder, hidden ones too, with a digest of it."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@contextmanager
def files_no_larger(size: int) -> Iterator[None]:
    """Within, the system lets no file grow beyond this, as a full disk does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["file", "folder"])
def there(request: pytest.FixtureRequest, file: Path, tmp_path: Path) -> Path:
    """A model that is there already, in one of the two layouts."""
    path = tmp_path / ("out.safetensors" if request.param == "file" else "out")
    save_model(open_model(file), path, layout="ldm" if request.param == "file" else "diffusers")
    return path


@pytest.mark.parametrize("command", ["convert", "merge"])
def test_a_disk_that_fills_up_leaves_what_was_there(
    command: str, file: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(there.parent)
    sources = [str(file)] * (2 if command == "merge" else 1)
    for target in (there, there.with_name(f"new-{there.name}")):
        with files_no_larger(100_000):
            assert run([command, *sources, str(target), "--dtype", "float16", "--overwrite"]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1
        assert str(target) in output.err
    assert contents(there.parent) == before


@pytest.mark.parametrize("command", ["convert", "merge"])
def test_an_interrupt_leaves_what_was_there(
    command: str, file: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    before = contents(there.parent)
    # When everything is written and nothing has its name yet.
    monkeypatch.setattr(os, "fsync", interrupt)
    sources = [str(file)] * (2 if command == "merge" else 1)
    assert run([command, *sources, str(there), "--overwrite"]) == 130
    assert contents(there.parent) == before
    assert capsys.readouterr().out == ""


def test_a_process_that_is_killed_leaves_what_was_there(file: Path, there: Path) -> None:
    before = contents(there.parent)
    code = (
        "import os, sys, time; from sfumato.cli.app import run\n"
        "def stop(_): print('written', flush=True); time.sleep(100)\n"
        "os.fsync = stop; run(sys.argv[1:])"
    )
    arguments = ["convert", str(file), str(there), "--dtype", "float16", "--overwrite"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # What it had written lies beside it under a hidden name, and is no model that anything finds.
    after = contents(there.parent)
    assert {name: digest for name, digest in after.items() if not name.startswith(".")} == before
    assert run(arguments) == 0
    assert str(open_model(there).unet.dtype) == "torch.float16"


def test_a_model_is_converted_in_its_own_place(file: Path, there: Path) -> None:
    """What is read is what was there, to the end."""
    assert run(["convert", str(there), str(there)]) == 2
    assert run(["convert", str(there), str(there), "--dtype", "float16", "--overwrite"]) == 0
    expected, found = open_model(file), open_model(there)
    for name, network in expected.networks.items():
        weights = found.networks[name].state_dict()
        for key, tensor in network.state_dict().items():
            assert weights[key].equal(tensor.half()), key
    assert run(["merge", str(there), str(there), str(there), "--weight", "0.3", "--overwrite"]) == 0
    assert [name for name in contents(there.parent) if name.startswith(".")] == []
