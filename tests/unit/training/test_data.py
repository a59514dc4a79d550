"""From packages to a dataset of named art: each stage on made-up packages, so that nothing is fetched."""

import base64
import hashlib
import io
import json
import tarfile
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import DataError
from sfumato.training.data import build, read_dataset
from sfumato.training.data.build import held_out_pairs, split_of
from sfumato.training.data.drawings import Drawing, Name, is_allowed, normalise_code, read_codes, read_icons, read_names
from sfumato.training.data.fetch import archive_name, fetch
from sfumato.training.data.gather import gather
from sfumato.training.data.keywords import read_keywords
from sfumato.training.data.naming import DrawingList, Naming, key_of, read_drawing_list
from sfumato.training.data.pack import over_white
from sfumato.training.data.render import render
from sfumato.training.data.sheet import write_sheet
from sfumato.training.data.sources import ART, KEYWORDS, NAMES, Source

MODULE = import_module("sfumato.training.data.build")  # its name in the package is the function
RED_LEFT = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><path fill="#f00" d="M0 0h1v2H0z"/></svg>'
EMOJI = {
    "🍎": ("red apple", "Food & Drink"),
    "🚀": ("rocket", "Travel & Places"),
    "🐕": ("dog", "Animals & Nature"),
    "🐶": ("dog face", "Animals & Nature"),
    "🇫🇷": ("flag: France", "Flags"),
    "👍🏽": ("thumbs up: medium skin tone", "People & Body"),
    "™️": ("trade mark", "Symbols"),
}
CODES = {"1f34e": "apple", "1f680": "rocket", "1f415": "dog", "1f436": "dog-face", "1f1eb-1f1f7": "fr", "2122": "tm"}


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


def iconify(names: list[str], codes: dict[str, str], colour: str = "#f00") -> bytes:
    icons = {name: {"body": f'<path fill="{colour}" d="M0 0h1v2H0z"/>'} for name in names}
    icons["withdrawn"] = {"body": "", "hidden": True}
    content = {"width": 2, "height": 2, "icons": icons}
    return archive({"icons.json": json.dumps(content).encode(), "chars.json": json.dumps(codes).encode()})


def names_package() -> bytes:
    table = {emoji: {"name": name, "group": group} for emoji, (name, group) in EMOJI.items()}
    return archive({"data-by-emoji.json": json.dumps(table).encode()})


def keywords_package() -> bytes:
    table = [{"hexcode": "1F34E", "tags": ["Fruit", "fruit", "red", "red fruit"]}, {"hexcode": "1F680"}]
    return archive({"en/data.json": json.dumps(table).encode()})


FLAT = iconify(["apple", "rocket", "dog", "dog-face", "fr", "tm"], CODES | {"1f4a5": "gone"})
CONTENTS: dict[str, tuple[Source, bytes]] = {
    "3d": (
        replace(ART[0], package="@art/3d", codes_from="@art/flat"),
        archive({f"assets/{c}.webp": webp("blue") for c in ("1f34e", "1f680", "1f415", "1f44d-1f3fd", "1f4a3", "x_1")}),
    ),
    "glossy": (
        replace(ART[1], package="@art/glossy", codes_from="@art/flat"),
        iconify(["apple", "rocket", "dog"], {}, "#0f0"),
    ),
    "flat": (replace(ART[2], package="@art/flat"), FLAT),
    "noto": (replace(ART[5], package="@art/by-name", style="noto"), iconify(["red-apple", "rocket-1", "rocket-2", "nothing"], {})),
    "twemoji": (replace(ART[10], package="@art/by-list", style="twemoji"), iconify(["puppy", "lamp", "brand"], {})),
}  # fmt: skip
LISTED = DrawingList(
    ("desk lamp",), {"@art/by-list": {"puppy": "dog face", "lamp": "desk lamp"}, "@art/glossy": {"dog": ""}}
)


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """Made-up packages in place of the real ones, already in the folder, checksums pinned."""
    folder = tmp_path / "packages"
    folder.mkdir()

    def pinned(source: Source, content: bytes) -> Source:
        source = replace(source, integrity=integrity(content))
        (folder / archive_name(source)).write_bytes(content)
        return source

    monkeypatch.setattr(MODULE, "NAMES", pinned(NAMES, names_package()))
    monkeypatch.setattr(MODULE, "KEYWORDS", pinned(KEYWORDS, keywords_package()))
    monkeypatch.setattr(MODULE, "ART", tuple(pinned(source, content) for source, content in CONTENTS.values()))
    monkeypatch.setattr(MODULE, "read_drawing_list", lambda: LISTED)
    return folder


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    path = tmp_path / "vocabulary.txt"
    path.write_text("# things\nred apple: apple, red apple\nrocket\n")
    return path


def built(out: Path, packages: Path, vocabulary: str | Path, **options):
    options = {"size": 8, "margin": 0.0, "held_out": 0, "progress": lambda _: None} | options
    return build(out, vocabulary=vocabulary, packages=packages, **options)


def test_build_makes_named_art_and_counts_it(tmp_path, packages, vocabulary):
    told: list[str] = []
    report = built(tmp_path / "out", packages, vocabulary, progress=told.append)
    data = read_dataset(report.dataset)
    assert report.things == 2
    assert report.taught == len(data.where(taught=True)) == 8
    # no flag, no skin tone, no trade mark, nothing without a name, no hidden drawing, no 3D drawing that the flat set lacks,
    # and no glossy dog, which our list leaves out
    assert {r.thing for r in data.records} == {"red apple", "rocket", "dog", "dog face", "desk lamp"}
    assert Counter(r.style for r in data.records) == {"3d": 3, "glossy": 2, "flat": 4, "noto": 2, "twemoji": 2}
    apple = next(i for i, r in enumerate(data.records) if r.style == "flat" and r.thing == "red apple")
    assert data.records[apple].names == ("apple", "red apple")
    assert data.records[apple].keywords == ("fruit",), "lower case, once, and without colours"
    np.testing.assert_allclose(data.pixels[apple][4, 1], [255, 0, 0, 255], atol=3)
    assert (data.pixels[apple][4, 6] == 0).all()
    np.testing.assert_allclose(data.on_white([apple])[0][4, 6], [255, 255, 255])
    assert report.licences == {"Apache-2.0": 2, "CC-BY-4.0": 2, "MIT": 9}
    assert "@art/flat@1.2.6: 4 pictures (2 taught), flat style, MIT" in told


def test_count_is_written_beside_the_dataset(tmp_path, packages, vocabulary):
    report = built(tmp_path / "out", packages, vocabulary)
    count = json.loads(report.report.read_text())
    assert count["pictures"] == 13
    assert count["sources"][2]["package"] == "@art/flat"
    assert count["sources"][2]["author"] == ART[2].author
    assert count["files"] == {"art-8.safetensors": hashlib.sha256(report.dataset.read_bytes()).hexdigest()}
    assert {path.name for path in report.sheets} == {f"art-8-{s}.png" for s in ("3d", "glossy", "flat", "noto")}


def test_build_is_deterministic_whatever_the_workers(tmp_path, packages, vocabulary, monkeypatch):
    one = built(tmp_path / "one", packages, vocabulary, workers=1)
    monkeypatch.setattr(MODULE, "ProcessPoolExecutor", _Threads)
    monkeypatch.setattr(MODULE, "_FEW_ENOUGH_FOR_ONE_PROCESS", 0)
    other = built(tmp_path / "other", packages, vocabulary, workers=2)
    for a, b in zip((*one.files, *one.sheets, one.report), (*other.files, *other.sheets, other.report), strict=True):
        assert a.read_bytes() == b.read_bytes()


class _Threads:
    """Stands in for the pool of processes, which is slow to start."""

    def __init__(self, workers: int, mp_context: object) -> None:
        assert workers == 2
        assert mp_context is not None

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, work, *items, chunksize: int):
        return map(work, *items)


@pytest.mark.slow
def test_processes_draw_what_one_does(tmp_path, packages, vocabulary, monkeypatch):
    monkeypatch.setattr(MODULE, "_FEW_ENOUGH_FOR_ONE_PROCESS", 0)
    one, other = (built(tmp_path / str(n), packages, vocabulary, workers=n).dataset.read_bytes() for n in (1, 2))
    assert one == other


def test_all_teaches_every_concept_that_two_styles_draw(tmp_path, packages):
    data = read_dataset(built(tmp_path / "out", packages, "all").dataset)
    taught = {r.thing: r.names[0] for r in data.records if r.names}
    assert taught == {"red apple": "red apple", "rocket": "rocket", "dog": "dog", "dog face": "dog face"}
    assert "puppy" in next(r.names for r in data.records if r.thing == "dog face"), (
        "the vocabulary's names serve here too"
    )


def test_pairs_are_held_out_among_the_styles_asked_for(tmp_path, packages, vocabulary):
    report = built(tmp_path / "out", packages, vocabulary, held_out=2, held_out_styles=("glossy", "noto"))
    data = read_dataset(report.dataset)
    held = [data.records[i] for i in data.where("held_out", True)]
    assert len(held) == report.held_out == 2
    assert {r.style for r in held} <= {"glossy", "noto"}
    with pytest.raises(DataError, match="ask for fewer"):
        built(tmp_path / "more", packages, vocabulary, held_out=20)


def test_held_out_pairs_follow_the_hash_and_leave_two_styles():
    pairs = [(f"thing {i}", style) for i in range(50) for style in ("a", "b", "c", "d")]
    chosen = held_out_pairs(pairs, 60, ["a", "b", "c", "d"])
    assert chosen == held_out_pairs(reversed(pairs), 60, ["d", "c", "b", "a"])
    assert len(chosen) == 60
    assert max(Counter(thing for thing, _ in chosen).values()) == 2
    assert held_out_pairs(pairs, 10, ["a", "b", "c", "d"]) < chosen
    assert held_out_pairs(pairs, 0, ["a"]) == frozenset()


def test_styles_that_are_not_asked_for_train_the_autoencoder_only(tmp_path, packages, vocabulary):
    data = read_dataset(built(tmp_path / "out", packages, vocabulary, styles=("3d", "flat")).dataset)
    assert {r.style for r in data.records if r.names} == {"3d", "flat"}
    assert {r.style for r in data.records} == {"3d", "glossy", "flat", "noto", "twemoji"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("unicycle\nrocket\n", "unicycle"), ("desk lamp\nrocket\n", "two styles of desk lamp")],
)
def test_thing_that_can_not_be_taught_is_named(tmp_path, packages, vocabulary, text, said):
    vocabulary.write_text(text)
    with pytest.raises(DataError, match=said):
        built(tmp_path / "out", packages, vocabulary)


@pytest.mark.parametrize(
    "options",
    [{"styles": ("oil",)}, {"held_out_styles": ("oil",)}, {"size": 0}, {"margin": 0.5}, {"held_out": -1}, {"quality": 101}],
)  # fmt: skip
def test_impossible_options_are_said(tmp_path, packages, vocabulary, options):
    with pytest.raises(DataError, match=r"the styles are 3d|can't be; expected"):
        built(tmp_path / "out", packages, vocabulary, **options)


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


DAMAGED = (b"not an archive", FLAT[:200], archive({"README.md": b"nothing"}), archive({"icons.json": b"[]", "chars.json": b"[]"}))  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("read", [read_names, read_keywords, read_codes, read_icons])
def test_archive_that_is_not_the_package_is_said(tmp_path, content, read):
    path = tmp_path / "art.tgz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"art\.tgz"):
        read(path)


def test_package_without_drawings_is_said(tmp_path):
    source = CONTENTS["noto"][0]
    path = tmp_path / "art.tgz"
    path.write_bytes(iconify(["nothing"], {}))
    with pytest.raises(DataError, match="holds no drawings"):
        gather(source, {source.package: path}, Naming({"1f680": Name("rocket", "")}, DrawingList((), {})))


def test_damaged_drawings_are_said():
    with pytest.raises(DataError, match="can't be re"):
        render(Drawing("1f34e", "webp", b"no"), 8)
    with pytest.raises(DataError, match="can't be re"):
        render(Drawing("1f34e", "svg", b"<svg"), 8)


def test_margin_is_left_transparent():
    pixels = render(Drawing("1f34e", "svg", RED_LEFT), 16, margin=0.25)
    assert pixels.shape == (16, 16, 4)
    assert (pixels[:4] == 0).all()
    np.testing.assert_allclose(pixels[8, 5], [255, 0, 0, 255], atol=3)


def test_edges_keep_their_colour():
    """No white and no dark fringe: where red ends it is red still, only fainter, whatever colour hides under transparency."""
    art = np.zeros((64, 64, 4), np.uint8)
    art[:, :, 1] = 255  # green, where nothing is to be seen
    y, x = np.mgrid[:64, :64]
    art[np.hypot(x - 31.5, y - 31.5) < 25] = (255, 0, 0, 255)
    file = io.BytesIO()
    Image.fromarray(art, "RGBA").save(file, "WEBP", lossless=True, exact=True)
    pixels = render(Drawing("1f534", "webp", file.getvalue()), 16)
    edge = pixels[(pixels[..., 3] > 30) & (pixels[..., 3] < 225)]
    assert len(edge) > 8
    assert (edge[:, 0] > 230).all()
    assert (edge[:, 1:3] < 25).all()
    assert (over_white(pixels)[0, 0] == 255).all()


def test_skin_tones_flags_and_trade_mark_signs_are_left_out():
    groups = {"1f34e": "Food & Drink", "1f1eb-1f1f7": "Flags", "1f44d-1f3fd": "People & Body", "2122": "Symbols"}
    names = {code: Name("x", group) for code, group in groups.items()}
    assert [c for c in names if is_allowed(c, names)] == ["1f34e"]
    assert not is_allowed("1f680", names)
    assert normalise_code("0023-FE0F-20e3") == "23-20e3"


def test_drawings_are_known_by_list_by_label_and_by_character():
    names = {
        c: Name(n, "") for c, n in (("1f415", "dog"), ("1f436", "dog face"), ("1f346", "eggplant"), ("1f98a", "fox"))
    }
    source = CONTENTS["noto"][0]
    listed = DrawingList((), {source.package: {"dog": "dog face", "dogside": "dog", "mascot": ""}})
    naming = Naming(names, listed)
    drawings = ["aubergine", "dog", "dogside", "fox", "fox-face-1", "fox-face-2", "mascot", "puppy"]
    assert naming.codes(source, drawings) == {"dog": "1f436", "dogside": "1f415", "aubergine": "1f346", "fox": "1f98a"}
    assert naming.codes(source, [*listed.shown[source.package], "fox-face-2", "fox-face-1"])["fox-face-2"] == "1f98a"
    assert key_of("Piñata & T-Rex’s") == "pinatatrexs"
    with pytest.raises(DataError, match="no drawing called dog, dogside, mascot"):
        naming.codes(source, ["fox"])
    with pytest.raises(DataError, match="nobody knows: cat"):
        Naming(names, DrawingList((), {"x": {"kitty": "cat"}}))


def test_the_list_of_drawings_fits_the_sources():
    listed = read_drawing_list()
    assert set(listed.shown) <= {source.package for source in ART}
    assert {s.package for s in ART if s.kind == "by-list"} <= set(listed.shown)
    shown = Counter(label for names in listed.shown.values() for label in set(names.values()))
    assert all(shown[thing] >= 2 for thing in listed.things), (
        "a thing of our own that one package draws can't be taught"
    )


@pytest.mark.parametrize("text", ["cat: cat\n", "[p]\ncat\n", "[p]\n: cat\n", "[p]\ncat: cat\ncat: dog\n"])
def test_bad_lists_of_drawings_are_refused(tmp_path, text):
    path = tmp_path / "drawings.txt"
    path.write_text(text)
    with pytest.raises(DataError, match="line"):
        read_drawing_list(path)
    with pytest.raises(DataError, match="can't be read"):
        read_drawing_list(tmp_path / "none.txt")


def test_every_source_is_pinned_and_credited():
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    for source in (*ART, NAMES, KEYWORDS):
        assert source.integrity.startswith("sha512-")
        assert len(base64.b64decode(source.integrity.partition("-")[2])) == 64
        assert f"{source.package} {source.version}" in notice
        assert source.licence in {"MIT", "Apache-2.0", "CC-BY-4.0"}, (
            "nothing with share-alike, unclear or trademark terms"
        )
    assert len({source.style for source in ART}) == len(ART)


def test_splits_follow_the_name_alone():
    assert split_of("rocket", is_taught=True) == "train"
    held_out = [n for n in map(str, range(2000)) if split_of(n, is_taught=False) == "held_out"]
    assert 60 < len(held_out) < 140


def test_sheet(tmp_path):
    write_sheet(tmp_path / "s.png", [np.zeros((4, 4, 3), np.uint8)] * 5, ["a"] * 5, columns=3, zoom=2)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (30, 44)
    write_sheet(tmp_path / "s.png", [np.zeros((16, 16, 3), np.uint8)] * 2, columns=2, side=8)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (20, 10)
