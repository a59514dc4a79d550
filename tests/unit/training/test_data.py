"""From packages to captioned pixels: each stage on made-up packages, so that nothing is fetched."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import DataError
from sfumato.training.data import build, read_dataset
from sfumato.training.data.build import split_of
from sfumato.training.data.captions import Thing, captions_for, read_vocabulary, with_article
from sfumato.training.data.drawings import Drawing, Name, is_allowed, normalise_code, read_drawings
from sfumato.training.data.fetch import archive_name, fetch
from sfumato.training.data.render import render
from sfumato.training.data.sheet import write_sheet
from sfumato.training.data.sources import ART, NAMES, Source

RED = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><path fill="#f00" d="M0 0h1v2H0z"/></svg>'


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def webp(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), colour).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def names_package() -> bytes:
    table = {
        "🍎": {"name": "red apple", "group": "Food & Drink"},
        "🚀": {"name": "rocket", "group": "Travel & Places"},
        "🇫🇷": {"name": "flag: France", "group": "Flags"},
        "👍🏽": {"name": "thumbs up: medium skin tone", "group": "People & Body"},
    }
    return archive({"data-by-emoji.json": json.dumps(table).encode()})


def iconify_package() -> bytes:
    icons = {
        "width": 2,
        "height": 2,
        "icons": {n: {"body": '<path fill="#f00" d="M0 0h1v2H0z"/>'} for n in ("apple", "rocket", "fr")},
    }
    chars = {"1f34e": "apple", "1f680": "rocket", "1f1eb-1f1f7": "fr", "1f4a5": "gone"}
    return archive({"icons.json": json.dumps(icons).encode(), "chars.json": json.dumps(chars).encode()})


def webp_package() -> bytes:
    return archive({f"assets/{code}.webp": webp("blue") for code in ("1f34e", "1f680", "1f44d-1f3fd", "1f1eb-1f1f7")})


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """Made-up packages in place of the real ones, already in the folder, checksums pinned."""
    folder = tmp_path / "packages"
    folder.mkdir()

    def pinned(source: Source, content: bytes) -> Source:
        (folder / archive_name(source)).write_bytes(content)
        return replace(source, integrity=integrity(content))

    module = __import__("sfumato.training.data.build", fromlist=["build"])
    monkeypatch.setattr(module, "NAMES", pinned(NAMES, names_package()))
    art = tuple(pinned(s, iconify_package() if s.kind == "iconify" else webp_package()) for s in ART)
    monkeypatch.setattr(module, "ART", art)
    return folder


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    path = tmp_path / "vocabulary.txt"
    path.write_text("# things\nred apple: apple, red apple\nrocket\n")
    return path


def built(out: Path, packages: Path, vocabulary: Path):
    return build(out, size=8, margin=0.0, vocabulary=vocabulary, packages=packages, progress=lambda _: None)


def test_build_makes_captioned_art_and_counts_it(tmp_path, packages, vocabulary):
    report = built(tmp_path / "out", packages, vocabulary)
    data = read_dataset(report.dataset)
    assert report.things == 2
    assert report.captioned == len(data.where(captioned=True)) == 4
    assert {r.style for r in data.records if r.captions} == {"3d", "flat"}
    assert sum(report.counts.values()) == len(data.records) == 8
    assert {licence for _, licence in report.counts} == {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert {r.thing for r in data.records} == {"red apple", "rocket"}  # no flag, no skin tone, no code without a name
    apple = next(i for i, r in enumerate(data.records) if r.style == "flat" and r.thing == "red apple")
    assert "an apple, flat style" in data.records[apple].captions
    np.testing.assert_allclose(data.pixels[apple][4, 1], [255, 0, 0], atol=3)
    np.testing.assert_allclose(data.pixels[apple][4, 6], [255, 255, 255], atol=3)
    assert report.sheet.exists()


def test_build_is_deterministic(tmp_path, packages, vocabulary):
    one, other = (built(tmp_path / name, packages, vocabulary).dataset.read_bytes() for name in ("one", "other"))
    assert one == other


def test_thing_without_a_drawing_is_named(tmp_path, packages, vocabulary):
    vocabulary.write_text("red apple\nflag: France\n")
    with pytest.raises(DataError, match="flag"):
        built(tmp_path / "out", packages, vocabulary)


def test_wrong_checksum_is_refused(tmp_path):
    source = replace(NAMES, integrity=integrity(b"right"))
    (tmp_path / archive_name(source)).write_bytes(b"wrong")
    with pytest.raises(DataError, match="expected"):
        fetch(source, tmp_path)


def test_missing_npm_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"install Node\.js"):
        fetch(NAMES, tmp_path)


def test_package_that_npm_can_not_have_is_said(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match="no such version"):
        fetch(NAMES, tmp_path)


@pytest.mark.parametrize("content", [b"not an archive", archive({"README.md": b"nothing"})])
def test_archive_that_is_not_the_package_is_said(tmp_path, content):
    path = tmp_path / "art.tgz"
    path.write_bytes(content)
    for source in ART[:2]:
        with pytest.raises(DataError, match=r"art\.tgz"):
            read_drawings(source, path)


def test_damaged_drawings_are_said():
    with pytest.raises(DataError, match="can't be re"):
        render(Drawing("1f34e", "webp", b"no"), 8)
    with pytest.raises(DataError, match="can't be re"):
        render(Drawing("1f34e", "svg", b"<svg"), 8)


def test_margin_is_left_white():
    pixels = render(Drawing("1f34e", "svg", RED), 16, margin=0.25)
    assert pixels.shape == (16, 16, 3)
    assert (pixels[:4] == 255).all()
    np.testing.assert_allclose(pixels[8, 5], [255, 0, 0], atol=3)


def test_skin_tones_flags_and_trade_mark_signs_are_left_out():
    names = {
        c: Name("x", g)
        for c, g in (
            ("1f34e", "Food & Drink"),
            ("1f1eb-1f1f7", "Flags"),
            ("1f44d-1f3fd", "People & Body"),
            ("2122", "Symbols"),
        )
    }
    assert [c for c in names if is_allowed(c, names)] == ["1f34e"]
    assert not is_allowed("1f680", names)
    assert normalise_code("0023-FE0F-20e3") == "23-20e3"


def test_captions_are_plain_and_varied():
    captions = captions_for(Thing("red apple", ("red apple", "apple")), "3d")
    assert {"red apple", "a red apple, 3d style", "apple in 3d style", "a 3d red apple", "an apple"} <= set(captions)
    assert len(captions) == len(set(captions))


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("octopus", "an octopus"), ("unicorn", "a unicorn"), ("ufo", "a ufo"), ("hourglass", "an hourglass"), ("scissors", "scissors"), ("cup of coffee", "a cup of coffee"), ("stack of books", "a stack of books"), ("t-rex", "a t-rex"), ("smiley with sunglasses", "a smiley with sunglasses"), ("books with a lamp", "books with a lamp")],
)  # fmt: skip
def test_articles(name, phrase):
    assert with_article(name) == phrase


def test_the_packages_own_vocabulary():
    things = read_vocabulary()
    assert len(things) >= 200
    names = [name for thing in things for name in thing.names]
    assert len(names) == len(set(names)), "two things are called by one name"


@pytest.mark.parametrize("text", ["apple\napple\n", "apple: red,\n"])
def test_bad_vocabularies_are_refused(tmp_path, text):
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(DataError):
        read_vocabulary(path)


def test_splits_follow_the_name_alone():
    assert split_of("rocket", is_taught=True) == "train"
    held_out = [n for n in map(str, range(2000)) if split_of(n, is_taught=False) == "held_out"]
    assert 60 < len(held_out) < 140


def test_damaged_and_foreign_datasets_are_said(tmp_path):
    (tmp_path / "art").write_bytes(b"no")
    with pytest.raises(DataError, match="build it again"):
        read_dataset(tmp_path / "art")


def test_sheet(tmp_path):
    write_sheet(tmp_path / "s.png", [np.zeros((4, 4, 3), np.uint8)] * 5, ["a"] * 5, columns=3, zoom=2)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (30, 44)
