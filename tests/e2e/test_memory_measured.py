"""What drawing with a checkpoint of Stable Diffusion 1.5's size takes in memory: as predicted, and within a budget."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is read from Linux's /proc"),
]


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tensors of Stable Diffusion 1.5, random, in float16, as one file."""
    folder = tmp_path_factory.mktemp("memory")
    bench("open_checkpoint").make_checkpoint(folder / "random.safetensors", folder / "folder")
    return folder / "random.safetensors"


@pytest.mark.parametrize(("budget", "most"), [("min", 600e6), ("1GB", 1e9)])
def test_a_budget_is_kept_and_the_peak_is_what_was_predicted(checkpoint: Path, budget: str, most: float) -> None:
    peak, predicted, notes = bench("memory").measure(checkpoint, budget, 256, 1)
    assert peak.anonymous <= most
    assert predicted["peak"] == pytest.approx(peak.anonymous, rel=0.10)
    assert any("widened layer by layer" in note for note in notes)
