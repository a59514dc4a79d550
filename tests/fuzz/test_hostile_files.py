"""Every family of hostile file is refused in one line, and nothing outside the file is run, imported, opened or connected to."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli.app import run

HERE = Path(__file__).parent


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gadgets = sys.modules["gadgets"] = load("gadgets")
floods = load("floods")
MAY_OPEN = (*gadgets.MAY_OPEN, *floods.MAY_OPEN)


def watched(folder: Path, *options: str) -> dict[str, Any]:
    """What became of the files of a folder, opened by a process of its own that watches itself."""
    files = sorted(str(file) for file in folder.iterdir())
    ran = subprocess.run(
        [sys.executable, str(HERE / "watch.py"), *options, *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    names = {}
    for number, (name, data) in enumerate([*gadgets.all_files(), *floods.files()]):
        (folder / f"{number:04}.ckpt").write_bytes(data)
        names[f"{number:04}.ckpt"] = name
    before = {file.name for file in folder.iterdir()}
    found = watched(folder)
    assert {file.name for file in folder.iterdir()} == before, "a file appeared, or went"
    return {names[file]: result for file, result in found.items()}


def test_nothing_happens_outside_the_file(results: dict[str, Any]) -> None:
    assert len(results) > 900
    assert {name: result["events"] for name, result in results.items() if result["events"]} == {}


def test_each_is_refused_in_one_line(results: dict[str, Any]) -> None:
    wrong = {
        name: result["said"]
        for name, result in results.items()
        if result["outcome"] not in ("UnsafeFileError", "CorruptFileError") and name not in MAY_OPEN
    }
    assert wrong == {}


def test_what_may_open_opens_as_data(results: dict[str, Any]) -> None:
    assert {results[name]["outcome"] for name in MAY_OPEN} == {"opened"}


def test_what_a_file_wants_to_run_is_named(results: dict[str, Any]) -> None:
    unlisted = {name for name in gadgets.CALLS if name != "copyreg._reconstructor"}
    for name in sorted(unlisted):
        for place in ("archive: reduce", "stream: stack global"):
            result = results[f"{place} {name}"]
            assert result["outcome"] == "UnsafeFileError", (name, result)
            assert f"wants to run {name} at byte" in result["said"]
            assert "refused" in result["said"]


@pytest.mark.parametrize("place", ["unet/diffusion_pytorch_model", "text_encoder/pytorch_model"])
def test_a_model_with_a_hostile_part_is_refused_by_the_command_in_one_line(
    place: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    for file in (folder / place).parent.glob("*.safetensors"):
        file.unlink()
    hostile = gadgets.archive(dict(gadgets.pickles())["reduce os.system"])
    (folder / f"{place}.bin").write_bytes(hostile)
    assert run(["inspect", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place}.bin: wants to run os.system at byte 2 of its pickle; refused" in line
    assert not Path("pwned").exists()


def test_what_would_take_all_the_memory_is_refused_for_that(results: dict[str, Any]) -> None:
    """The process that opens them has half a gigabyte for all, and five seconds for each (`watch.limited`)."""
    found = {name for name in results if name.startswith("flood: ")}
    assert len(found) == 14
    assert all("memory to open" not in results[name]["said"] for name in found)
    for name in ("a dict of pairs copied over and over", "long names of classes", "tensors of many dimensions"):
        assert "would take far more memory than the file has bytes" in results[f"flood: {name}"]["said"]


EVIL = {
    "archive": gadgets.archive(dict(gadgets.pickles())["reduce os.system"]),
    "bare": dict(gadgets.pickles())["reduce builtins.eval"],
}


@pytest.mark.parametrize("data", EVIL.values(), ids=EVIL.keys())
@pytest.mark.parametrize("name", ["x.ckpt", "x.safetensors"])
@pytest.mark.parametrize("door", ["lora", "embedding", "convert", "merge", "inspect"])
def test_at_every_door_a_hostile_file_is_refused_whatever_its_name(
    door: str,
    name: str,
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    assert run(DOORS[door](name)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: wants to run " in line
    assert "refused" in line
    assert [file.name for file in tmp_path.iterdir()] == [name]


DOORS: dict[str, Any] = {
    "model": lambda name: ["generate", "a fox", "--model", name],
    "lora": lambda name: ["generate", "a fox", "--lora", name],
    "embedding": lambda name: ["generate", "a fox", "--embedding", name],
    "convert": lambda name: ["convert", name, "out.safetensors"],
    "merge": lambda name: ["merge", name, name, "out.safetensors"],
    "inspect": lambda name: ["inspect", name],
}


def test_the_watch_sees(tmp_path: Path) -> None:
    """Python's own unpickler, given the same, does what they want, and it is noted."""
    (tmp_path / "a.ckpt").write_bytes(dict(gadgets.pickles())["reduce os.system"])
    noted = watched(tmp_path, "--unguarded")["a.ckpt"]["events"]
    assert any("os.system" in event for event in noted)
    assert (tmp_path / "pwned").exists()
