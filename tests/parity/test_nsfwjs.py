"""The filter says of a picture what the npm package says that its weights come from (recorded by `record_nsfwjs.py`)."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sfumato.models.nsfw_classifier import KINDS
from sfumato.pipeline.nsfw_filter import NSFWFilter

_spec = importlib.util.spec_from_file_location("record_nsfwjs", Path(__file__).with_name("record_nsfwjs.py"))
assert _spec is not None and _spec.loader is not None  # noqa: PT018
recorder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recorder)

PICTURES = recorder.pictures()
RECORDED = json.loads(recorder.FILE.read_text(encoding="utf-8"))


def test_every_picture_was_recorded() -> None:
    assert set(PICTURES) == set(RECORDED)
    assert len({max(range(5), key=row.__getitem__) for row in RECORDED.values()}) > 1


@pytest.mark.parametrize("name", RECORDED)
def test_likelihoods_equal_those_of_nsfwjs(name: str) -> None:
    scores = NSFWFilter().scores(PICTURES[name])
    np.testing.assert_allclose([scores[kind] for kind in KINDS], RECORDED[name], rtol=1e-4, atol=1e-7)
    assert math.isclose(sum(scores[kind] for kind in KINDS), 1, rel_tol=1e-5)
