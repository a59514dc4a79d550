"""Kernels are compiled once and kept; what can't be compiled or loaded is said, and costs no picture."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sfumato import native
from sfumato.errors import EngineError
from sfumato.native import building

FLAGS = building.AVX2


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def needs_compiler() -> None:
    try:
        building._compiler()
        if building.AVX2 not in building.instructions() and building.AVX512 not in building.instructions():
            pytest.skip("no AVX2")
    except EngineError as error:
        pytest.skip(str(error))


def test_what_was_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    building.build(FLAGS, tmp_path)
    name = f"{building.kept_as(FLAGS)}.so"
    assert [path.name for path in tmp_path.iterdir()] == [name], "and nothing half-made beside it"
    monkeypatch.setattr(building, "_compiled", lambda *_: pytest.fail("it was compiled again"))
    assert hasattr(building.build(FLAGS, tmp_path), "attention_float32")


def test_what_is_damaged_is_compiled_again(tmp_path: Path) -> None:
    needs_compiler()
    path = tmp_path / f"{building.kept_as(FLAGS)}.so"
    path.write_bytes(b"no library")
    assert hasattr(building.build(FLAGS, tmp_path), "attention_float32")
    assert path.read_bytes().startswith(b"\x7fELF")


def test_where_nothing_can_be_kept_it_is_used_all_the_same(tmp_path: Path) -> None:
    needs_compiler()
    (tmp_path / "file").write_text("where a folder should be")
    assert hasattr(building.build(FLAGS, tmp_path / "file"), "attention_float32")


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo 'x.c:1: error: no such flag' >&2; exit 1", "failed: x.c:1: error: no such flag"),
        ("exit 3", "failed: exit status 3"),
        ("exit 0", "failed: exit status 0"),
        ('for last; do :; done; while [ "$1" != -o ]; do shift; done; echo no library > "$2"', "can't be loaded"),
        ("sleep 60", "took longer than 0.2 s"),
    ],
)
def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str) -> None:
    monkeypatch.setenv("CC", script(tmp_path / "cc", does))
    monkeypatch.setattr(building, "PATIENCE", 0.2 if "sleep" in does else 60)
    with pytest.raises(EngineError, match=says):
        building.build(FLAGS, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir()), "nothing half-made is left"


@pytest.mark.parametrize(
    ("named", "says"), [("no-such-compiler", "no-such-compiler, as CC says"), ("", "cc, gcc, clang")]
)
def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, says: str) -> None:
    monkeypatch.setenv("CC", named)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=f"there is no C compiler \\({says}\\)"):
        building.build(FLAGS, tmp_path / "kept")


@pytest.mark.parametrize(
    ("machine", "capability", "wants"),
    [
        ("x86_64", "AVX2", [building.AVX2]),
        ("arm64", "DEFAULT", None),
        ("x86_64", "DEFAULT", None),
        ("AMD64", "AVX512", [building.VNNI, building.AVX512]),
    ],
)
def test_instructions_are_those_that_pytorch_uses(
    monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, wants: list[tuple[str, ...]] | None
) -> None:
    monkeypatch.setattr(building.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    if wants is None:
        with pytest.raises(EngineError, match="written for x86 processors with AVX2"):
            building.instructions()
        return
    assert building.instructions() == wants
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported")
    assert building.VNNI not in building.instructions(), "where PyTorch does not say, there is none"


def test_where_there_is_a_compiler_and_a_processor_there_are_kernels() -> None:
    """Else a kernel that no longer compiles would only skip its tests."""
    needs_compiler()
    if os.environ.get(building.OFF) == "0":
        pytest.skip("they are switched off")
    assert native.why_not() is None
    if building.VNNI in building.instructions():
        assert native.why_not_in_bytes() is None
        assert (native.serving() or "").startswith("attention, bytes ")


@pytest.fixture
def unmade() -> Iterator[None]:
    building._made.cache_clear()
    yield
    building._made.cache_clear()


@pytest.mark.usefixtures("unmade")
def test_a_compiler_that_knows_fewer_instructions_makes_fewer_kernels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs_compiler()
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setattr(building, "instructions", lambda: [(*building.AVX2, "-mno-such-thing"), building.AVX2])
    assert hasattr(building.library(), "attention_float32")
    assert building.digest() == building.kept_as(building.AVX2)


@pytest.mark.usefixtures("unmade")
def test_where_nobody_is_at_home_they_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(building, "cache_folder", nobody)
    assert hasattr(building.library(), "attention_float32")

    def nowhere(**_: object) -> str:
        raise FileNotFoundError("no usable temporary directory")

    building._made.cache_clear()
    monkeypatch.setattr(building.tempfile, "mkdtemp", nowhere)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"can't be compiled .no usable temporary directory"):
            building.library()
    assert building.digest() is None


def test_what_others_could_have_written_is_not_loaded(tmp_path: Path) -> None:
    needs_compiler()
    building.build(FLAGS, tmp_path)
    path = tmp_path / f"{building.kept_as(FLAGS)}.so"
    path.chmod(0o722)
    before = path.stat().st_ino
    building.build(FLAGS, tmp_path)
    assert path.stat().st_ino != before, "it was compiled again"
    assert not path.stat().st_mode & 0o077


def test_a_place_that_is_taken_costs_only_the_keeping(tmp_path: Path) -> None:
    needs_compiler()
    (tmp_path / f"{building.kept_as(FLAGS)}.so").mkdir()
    assert hasattr(building.build(FLAGS, tmp_path), "attention_float32")


def test_what_cc_says_beside_the_compiler_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()
    found = building._compiler()[0]
    monkeypatch.setenv("CC", f"{found} -pipe '-DA=B C'")
    assert building._compiler() == [found, "-pipe", "-DA=B C"]


def test_it_can_be_switched_off() -> None:
    code = (
        "from sfumato import native; assert native.why_not() == 'SFUMATO_NATIVE is 0', native.why_not()\n"
        "assert native.why_not_in_bytes() == 'SFUMATO_NATIVE is 0'; assert native.serving() is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"SFUMATO_NATIVE": "0", "PATH": ""})
