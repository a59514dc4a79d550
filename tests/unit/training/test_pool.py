"""Scenes are the same whoever composes them, and come in order."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from sfumato.errors import OutputError, TrainingError
from sfumato.training import pool as module
from sfumato.training.data import read_dataset
from sfumato.training.data.scenes import SceneMaker, SceneMix
from sfumato.training.pool import Order, ScenePool, compose


@pytest.fixture
def makers(toy_data: Path) -> list[SceneMaker]:
    data = read_dataset(toy_data)
    return [SceneMaker(data, seed=3), SceneMaker(data, SceneMix(plain=1, coloured=0), 4, rows=(0, 1))]


def test_order_is_divided_without_rest_or_overlap():
    order = Order(first=10, count=7, maker=1, captions=2)
    assert [(part.first, part.count) for part in order.parts(3)] == [(10, 3), (13, 3), (16, 1)]
    assert {(part.maker, part.captions) for part in order.parts(3)} == {(1, 2)}
    assert Order(first=5, count=0).parts(3) == []


def test_order_is_the_makers_scenes(makers):
    composed = compose(makers[0], Order(first=5, count=3, captions=2))
    for i, number in enumerate(range(5, 8)):
        chance = makers[0].chance(number)
        scene = makers[0].compose(chance)
        assert np.array_equal(composed.pixels[i], scene.pixels)
        assert composed.captions[i] == scene.captions(2, chance)


def test_processes_give_what_one_gives_in_order_and_without_end(makers):
    orders = [Order(first=4 * i, count=4, maker=i % 2, captions=1) for i in range(12)]
    with ScenePool(makers, 0) as alone, ScenePool(makers, 2) as pool:
        endless = itertools.chain(orders, (Order(first=0, count=1) for _ in itertools.count()))
        for one, other in zip(alone.take(orders), pool.take(endless), strict=False):
            assert np.array_equal(one.pixels, other.pixels)
            assert one.captions == other.captions
        assert list(pool.take([])) == []


def test_shared_file_is_gone_afterwards(makers, tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "shared"))
    with pytest.raises(OutputError, match="TMPDIR"), ScenePool(makers, 1):
        pass
    (tmp_path / "shared").mkdir()
    with ScenePool(makers, 1):
        assert len(list((tmp_path / "shared").iterdir())) == 1
    assert not list((tmp_path / "shared").iterdir())


def test_death_of_a_process_is_said(makers, monkeypatch):
    monkeypatch.setattr(module, "_work", os._exit)  # an Order is no status: the process ends with an error of its own
    with ScenePool(makers, 1) as pool:
        pool._executor.submit(os._exit, 1)
        with pytest.raises(TrainingError, match="fewer workers"):
            list(pool.take([Order(first=0, count=1)] * 3))
