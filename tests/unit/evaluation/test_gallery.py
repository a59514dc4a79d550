"""The gallery finds things by their nearest drawing, and is the same after it was written."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from sfumato.errors import DataError
from sfumato.evaluation import Gallery, read_gallery, write_gallery
from sfumato.evaluation.gallery import Entry
from sfumato.evaluation.real_art import build_gallery, composed_scores
from sfumato.training.data.pack import ArtDataset


def entry(thing: str, style: str) -> Entry:
    return Entry(thing=thing, style=style, split="train", names=(thing,))


@pytest.fixture
def directions() -> Gallery:
    """Four drawings in the directions of three axes; the dog is drawn twice."""
    rows = np.eye(4, dtype=np.float32)
    drawings = (entry("cat", "flat"), entry("dog", "flat"), entry("dog", "noto"), entry("sun", "noto"))
    return Gallery(descriptors=rows, entries=drawings)


def test_the_nearest_is_the_nearest_drawing_s_thing(directions):
    query = np.array([0.3, 0.2, 0.9, 0.1], np.float32)
    assert directions.nearest(query) == ["dog", "cat", "sun"]
    assert directions.nearest(query, hidden="noto") == ["cat", "dog"]
    assert directions.nearest_style(query, ["dog"]) == "noto"
    assert directions.nearest_style(query, ["dog", "cat"]) == "noto"
    assert directions.nearest_style(query, ["cat"]) == "flat"


def test_it_is_the_same_after_it_was_written(gallery, tmp_path):
    write_gallery(tmp_path / "gallery.safetensors", gallery)
    again = read_gallery(tmp_path / "gallery.safetensors")
    assert again.entries == gallery.entries
    assert again.real_scores == gallery.real_scores
    assert (again.dataset_sha256, again.picture_size) == (gallery.dataset_sha256, gallery.picture_size)
    assert again.sha256 == gallery.sha256
    np.testing.assert_allclose((again.descriptors * gallery.descriptors).sum(1), 1, atol=1e-4)


def test_the_package_s_own_is_small_and_whole():
    from sfumato.evaluation.gallery import default_gallery_path

    assert default_gallery_path().stat().st_size <= 5 * 2**20
    whole = read_gallery()
    assert len(whole.things) == 400
    assert set(whole.styles) >= {"3d", "flat"}
    assert set(whole.real_scores) == {"colours", "new_colours", "backgrounds", "two_things"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: None, "no gallery at"),
        (lambda path: path.write_bytes(b"x" * 40), "is not a gallery or is damaged"),
        (lambda path: save_file({"descriptors": np.zeros((2, 3), np.uint8)}, path), "is not a gallery or is damaged"),
        (
            lambda path: save_file(
                {"descriptors": np.zeros((2, 3), np.uint8)}, path, metadata={"sfumato": '{"format": 99}'}
            ),
            "is of format 99, expected 1",
        ),
        (
            lambda path: save_file(
                {"descriptors": np.zeros((2, 3), np.uint8)},
                path,
                metadata={
                    "sfumato": '{"format": 1, "names": {}, "entries": [], "dataset_sha256": "", "picture_size": 1, '
                    '"real_scores": {}}'
                },
            ),
            r"descriptors of shape \(2, 3\) for 0 drawings",
        ),
    ],
)
def test_what_is_no_gallery_is_told(tmp_path, damage, message):
    path = tmp_path / "gallery.safetensors"
    damage(path)
    with pytest.raises(DataError, match=f"{message}.*sfumato eval gallery DATASET") as raised:
        read_gallery(path)
    assert "\n" not in str(raised.value)


def test_it_is_made_of_taught_art_and_says_what_that_can_be_turned_to(gallery, art):
    assert len(gallery.entries) == len(art.records)
    disc = gallery.entries[gallery.row("disc", "plain")]
    assert disc.names == ("red disc", "round thing")
    assert "red" not in disc.colours
    assert {"blue", "green"} <= set(disc.colours)
    for row, drawn in enumerate(gallery.descriptors):
        assert gallery.nearest(drawn)[0] == gallery.entries[row].thing


def test_real_art_has_its_colours_and_grounds(gallery):
    for kind, measure in (("colours", "colour"), ("backgrounds", "background")):
        score = composed_scores(gallery.real_scores, kind, gallery.styles)[measure]
        assert (score.share, score.of) == (1.0, 6)
    assert composed_scores(gallery.real_scores, "colours", []) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_it_may_be_of_a_few_things_those_with_held_out_pairs_first(art, classifier, gallery, count):
    few = build_gallery(art, classifier, things=count, cases=2)
    assert len(few.things) == min(count, 5)
    assert set(few.things[:count]) <= {"square", "cross"} or {"square", "cross"} <= set(few.things)
    assert few.styles == gallery.styles
    for row, entry in enumerate(few.entries):
        assert entry == gallery.entries[gallery.row(entry.thing, entry.style)]
        assert np.array_equal(few.descriptors[row], gallery.descriptors[gallery.row(entry.thing, entry.style)])
    if count == 3:
        again = build_gallery(ArtDataset(art.pixels[::-1], art.records[::-1]), classifier, things=count, cases=2)
        assert set(again.things) == set(few.things)


def test_a_dataset_that_teaches_nothing_makes_no_gallery(art, classifier):
    from dataclasses import replace

    untaught = ArtDataset(art.pixels, tuple(replace(record, names=()) for record in art.records))
    with pytest.raises(DataError, match="teaches no thing"):
        build_gallery(untaught, classifier)
