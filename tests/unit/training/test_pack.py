"""The dataset's files: what is written is what is read, in one file or several, and what is not such a file is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from sfumato.errors import DataError
from sfumato.training.data.pack import ArtDataset, Record, decode, encode, read_dataset, write_dataset, write_pictures


def record(i: int, **changes) -> Record:
    fields = {
        "thing": f"thing “{i}”",
        "style": "flat",
        "code": "1",
        "source": "a@1",
        "licence": "MIT",
        "split": "train",
    }
    return Record(**(fields | changes))


@pytest.fixture
def art() -> ArtDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 4), dtype=np.uint8)
    pixels[pixels[..., 3] < 60] = 0
    names = [("cat", "kitten") if i % 2 else () for i in range(20)]
    records = tuple(
        record(i, names=n, keywords=("é",), split="train" if i < 15 else "held_out") for i, n in enumerate(names)
    )
    return ArtDataset(pixels, records)


def written(folder: Path, art: ArtDataset, **options) -> tuple[Path, ...]:
    return write_pictures(
        folder / "art-16.safetensors", [encode(p) for p in art.pixels], art.records, size=16, **options
    )


def test_what_is_written_is_read(tmp_path, art):
    write_dataset(tmp_path / "a", list(art.pixels), art.records)
    write_dataset(tmp_path / "b", list(art.pixels), art.records)
    read = read_dataset(str(tmp_path / "a"))
    assert (read.pixels == art.pixels).all()
    assert read.records == art.records
    assert read.size == 16
    assert read.sha256 == art.sha256
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_are_found_by_split_and_by_being_taught(art):
    assert art.where().tolist() == list(range(20))
    assert art.where("held_out").tolist() == [15, 16, 17, 18, 19]
    assert art.where("held_out", True).tolist() == [15, 17, 19]
    assert art.where(split="train", taught=False).tolist() == list(range(0, 15, 2))


def test_on_white_mixes_by_alpha():
    pixels = np.zeros((2, 1, 1, 4), np.uint8)
    pixels[0] = (100, 0, 255, 51)
    data = ArtDataset(pixels, (record(0), record(1)))
    assert data.on_white().tolist() == [[[[224, 204, 255]]], [[[255, 255, 255]]]]
    assert data.on_white([1]).shape == (1, 1, 1, 3)


def test_several_files_are_read_together_whichever_is_named(tmp_path, art):
    whole = written(tmp_path / "whole", art)
    parts = written(tmp_path, art, shard_mb=0.008)
    assert len(parts) > 2
    assert all(path.stat().st_size < 8_000 for path in parts)
    assert parts[0].name == f"art-16-1-of-{len(parts)}.safetensors"
    for named in (tmp_path / "art-16.safetensors", parts[0], parts[-1]):
        data = read_dataset(named)
        assert data.records == art.records
        assert data.sha256 == read_dataset(whole[0]).sha256


def test_earlier_files_of_the_name_go(tmp_path, art):
    many = written(tmp_path, art, shard_mb=0.008)
    fewer = written(tmp_path, art, shard_mb=0.015)
    assert len(fewer) < len(many)
    (tmp_path / "art-16-one-of-many.safetensors").write_bytes(b"")
    assert set(tmp_path.iterdir()) == {*fewer, tmp_path / "art-16-one-of-many.safetensors"}
    assert written(tmp_path, art) == (tmp_path / "art-16.safetensors",)
    assert not fewer[0].exists()


def test_missing_and_foreign_parts_are_said(tmp_path, art):
    parts = written(tmp_path, art, shard_mb=0.015)
    parts[1].rename(tmp_path / "kept")
    with pytest.raises(DataError, match=f"no training data at .*{parts[1].name}"):
        read_dataset(parts[0])
    others = ArtDataset(art.pixels, tuple(record(i) for i in range(20)))
    other = next(p for p in written(tmp_path / "other", others, shard_mb=0.015) if p.name.startswith("art-16-2-"))
    other.rename(parts[1])
    with pytest.raises(DataError, match="different builds"):
        read_dataset(parts[0])


def test_picture_that_no_file_holds_is_said(tmp_path, art):
    with pytest.raises(DataError, match="allow larger files"):
        written(tmp_path, art, shard_mb=0.001)


def test_colours_with_loss_keep_the_outline():
    y, x = np.mgrid[:64, :64] / 63
    picture = np.stack([255 * x, 255 * y, 128 + 0 * x, 255 * (np.hypot(x - 0.5, y - 0.5) < 0.4)], axis=2).astype(
        np.uint8
    )
    picture[picture[..., 3] == 0] = 0
    lossy, exact = encode(picture, 80), encode(picture)
    read = decode(lossy)
    assert len(lossy) < len(exact)
    assert (decode(exact) == picture).all()
    assert (read[..., 3] == picture[..., 3]).all()
    assert (read[picture[..., 3] == 0] == 0).all()
    assert np.abs(read.astype(int) - picture).mean() < 4


def test_counts_that_differ_are_said(art):
    with pytest.raises(DataError, match="20 pictures but 1 records"):
        ArtDataset(art.pixels, art.records[:1])


def changed(path: Path, tensors: dict[str, np.ndarray] | None = None, **metadata: object) -> Path:
    with safe_open(path, framework="np") as file:
        content = json.loads(file.metadata()["sfumato"]) | metadata
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    save_file(kept | (tensors or {}), path, {"sfumato": json.dumps(content)})
    return path


def test_an_older_format_is_said(tmp_path, art):
    with pytest.raises(DataError, match="format 1, expected 2; build it again"):
        read_dataset(changed(written(tmp_path, art)[0], format=1))


def test_damaged_and_foreign_datasets_are_said(tmp_path, art):
    (tmp_path / "art").write_bytes(b"no")
    with pytest.raises(DataError, match="build it again"):
        read_dataset(tmp_path / "art")
    with pytest.raises(DataError, match="make it first"):
        read_dataset(tmp_path / "none")
    save_file({"webp": np.zeros(3, np.uint8)}, tmp_path / "bare")
    with pytest.raises(DataError, match="not a dataset file"):
        read_dataset(tmp_path / "bare")
    for change in (
        {"tensors": {"offsets": np.zeros(21, np.int64)}},
        {"tensors": {"offsets": np.zeros(0, np.int64)}},
        {"tensors": {"webp": np.zeros(4, np.uint8), "offsets": np.array([0, 4])}, "records": [{}]},
        {"size": 32},
        {"size": "wide"},
        {"records": 3},
        {"records": [{"thing": "cat", "names": [], "keywords": [], "unknown": 1}] * 20},
    ):
        with pytest.raises(DataError, match="is damaged"):
            read_dataset(changed(written(tmp_path, art)[0], **change))
