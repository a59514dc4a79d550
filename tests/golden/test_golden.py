"""Values that must not change from one version to the next: tokens, noise, trajectories. A seed is a promise."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("golden_record", HERE / "record.py")
    assert spec is not None
    assert spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    return record.values()


GOLDEN = json.loads((HERE / "values.json").read_text(encoding="utf-8"))


def test_tokens(now: dict[str, Any]) -> None:
    assert now["tokens"] == GOLDEN["tokens"]


def test_the_noise_of_a_seed_is_the_same_to_the_bit(now: dict[str, Any]) -> None:
    assert now["noise of seed 42"] == GOLDEN["noise of seed 42"]


ELSEWHERE = "what other processors make of it"
KINDS = ("latents after 7 steps", "latents after 7 steps as in the web UI")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in GOLDEN[kind]])
def test_trajectories(now: dict[str, Any], kind: str, name: str) -> None:
    # A Brownian path is read at levels that float32's log and exp make of sigmas; some processors make the neighbour of one.
    known = [GOLDEN[kind][name], *GOLDEN[ELSEWHERE].get(kind, {}).get(name, [])]
    assert any(now[kind][name] == pytest.approx(values, rel=1e-5, abs=1e-6) for values in known), (
        now[kind][name],
        known,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_scheduler_and_sampler_has_its_golden_trajectory(now: dict[str, Any], kind: str) -> None:
    assert now[kind].keys() == GOLDEN[kind].keys()
