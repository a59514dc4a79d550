import json
from pathlib import Path

import pytest

from sfumato.bundle import bundled_model
from sfumato.checkpoints import Card
from sfumato.errors import ConfigError

CARD = Card(
    settings={"name": "sfumato-x", "num_inference_steps": 20, "styles": ["3d", "flat"], "training": {"steps": 5}},
    vocabulary=("Christmas tree", "piñata"),
    words=("3d", "christmas", "flat", "piñata", "tree"),
)


def written(card: Card, folder: Path) -> Path:
    for name, contents in card.files().items():
        (folder / name).write_bytes(contents)
    return folder


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert CARD.files().keys() == {"sfumato.json", "vocabulary.txt", "words.txt"}
    assert CARD.files()["words.txt"].decode() == "3d\nchristmas\nflat\npiñata\ntree\n"
    again = Card.read(written(CARD, tmp_path))
    assert again == CARD
    assert again.styles == ("3d", "flat")
    assert again.known_words is not None
    assert again.known_words.note_on("a Christmas tree") == "unknown to this model: a"


def test_most_models_have_none(tmp_path: Path) -> None:
    card = Card.read(tmp_path)
    assert card == Card()
    assert (card.files(), card.styles, card.defaults, card.known_words) == ({}, (), {}, None)


def test_the_bundled_model_s_card_keeps_its_bytes() -> None:
    files = Card.read(bundled_model()).files()
    assert files.keys() >= {"sfumato.json", "vocabulary.txt"}
    for name, contents in files.items():
        assert contents == (bundled_model() / name).read_bytes()


def test_recommendations_are_replaced_and_the_rest_stays() -> None:
    card = CARD.with_defaults({"guidance_scale": 3.0})
    assert card.defaults == {"guidance_scale": 3.0}
    assert card.settings == {
        "name": "sfumato-x",
        "styles": ["3d", "flat"],
        "training": {"steps": 5},
        "guidance_scale": 3.0,
    }
    assert Card().with_defaults({}).files() == {}


def test_lists_written_by_hand_are_read_as_they_are_meant(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfCat\r\n\r\n dog \n")
    known = Card.read(tmp_path).known_words
    assert known is not None
    assert known.unknown_in("cat dog") == []
    (tmp_path / "words.txt").write_bytes(b"\n")
    assert Card.read(tmp_path).known_words is None


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("sfumato.json", b"{", "sfumato.json is not JSON"),
        ("sfumato.json", b"\xff", "sfumato.json is not JSON"),
        ("sfumato.json", b"[" * 100_000, "sfumato.json is not JSON"),
        ("sfumato.json", b"[1]", "must hold numbers for num_inference_steps"),
        ("sfumato.json", json.dumps({"height": "64"}).encode(), "must hold numbers for num_inference_steps"),
        ("sfumato.json", json.dumps({"styles": "3d"}).encode(), "must hold a list of names for styles"),
        ("sfumato.json", json.dumps({"styles": [3]}).encode(), "must hold a list of names for styles"),
        ("vocabulary.txt", b"\xff", "vocabulary.txt is not text in UTF-8"),
        ("words.txt", b"\xff\xfe", "words.txt is not text in UTF-8"),
    ],
)
def test_damaged_cards_are_said(tmp_path: Path, name: str, contents: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(ConfigError, match=message) as caught:
        Card.read(tmp_path)
    assert "restore it or delete it" in str(caught.value)
    assert "\n" not in str(caught.value)
