"""One file of training art: pictures with their transparency and, for each, what it shows, where it comes from and what it is called.

The file is a safetensors file: the pictures as lossless WebP, one after another (`webp`, bytes), where each begins and the last ends
(`offsets`, n + 1), and the records as JSON in its metadata. Compact, read without running anything, and byte for byte the same whenever it
is built from the same packages. A large dataset may be several such files, `art-64-1-of-3.safetensors` and so on.
"""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sfumato.errors import DataError
from sfumato.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

Split = Literal["train", "held_out"]
_METADATA_KEY = "sfumato"
_FORMAT = 2
_PART_NAME = re.compile(r"(.+)-\d+-of-(\d+)")
# What a file weighs beside its pictures and records: its header, and for each picture an offset and a separator.
_HEAD_BYTES = 1024
_BYTES_A_PICTURE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One picture: the thing's name, the style, its code, package and licence, split, and what it is called.

    `names` is what people call the thing, the listed name first; a picture without names is not taught: the autoencoder learns from it, the
    U-Net does not. `keywords` are the words it is searched by, lower case.
    """

    thing: str
    style: str
    code: str
    source: str
    licence: str
    split: Split
    names: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtDataset:
    """Pictures (`n size size 4`, uint8, straight alpha) and their records, in the same order."""

    pixels: "NDArray[np.uint8]"
    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.records):
            raise DataError(f"{len(self.pixels)} pictures but {len(self.records)} records; build the data again.")

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.pixels.shape[1]

    @property
    def sha256(self) -> str:
        """The hexadecimal hash of the pixels and of what the records say."""
        digest = hashlib.sha256(json.dumps([asdict(record) for record in self.records], sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def where(self, split: Split | None = None, taught: bool | None = None) -> "NDArray[np.int64]":
        """Indices of the pictures of a split, with or without names."""
        return np.array(
            [
                i
                for i, record in enumerate(self.records)
                if (split is None or record.split == split) and (taught is None or bool(record.names) == taught)
            ],
            dtype=np.int64,
        )

    def on_white(self, rows: "Sequence[int] | NDArray[np.int64] | None" = None) -> "NDArray[np.uint8]":
        """The pictures of those rows (all by default) over a white ground, `n size size 3`."""
        chosen = range(len(self.records)) if rows is None else rows
        flat = np.empty((len(chosen), self.size, self.size, 3), np.uint8)
        # one at a time: a copy of all in wider numbers would be several times the data
        for i, row in enumerate(chosen):
            flat[i] = over_white(self.pixels[row])
        return flat


def over_white(rgba: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """A picture with straight alpha (`… 4`, uint8) over a white ground (`… 3`)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def encode(picture: "NDArray[np.uint8]", quality: int | None = None) -> bytes:
    """A picture (`size size 4`) as WebP: lossless, or with `quality` 0-100 its colours with loss and its transparency without."""
    file = io.BytesIO()
    image = Image.fromarray(picture, "RGBA")
    if quality is None:
        # exact: the colours under full transparency are kept as well, so that what is read is what was written. More effort would take
        # four times as long for files a seventeenth smaller.
        image.save(file, "WEBP", lossless=True, exact=True, quality=40, method=2)
    else:
        image.save(file, "WEBP", quality=quality, alpha_quality=100, method=4)
    return file.getvalue()


def decode(picture: bytes) -> "NDArray[np.uint8]":
    """The picture that `encode` wrote. Raises ValueError or OSError when it is damaged."""
    with Image.open(io.BytesIO(picture), formats=["WEBP"]) as image:
        pixels = np.array(image.convert("RGBA"))
    pixels[pixels[..., 3] == 0] = 0  # storing with loss leaves colours there
    return pixels


def write_dataset(path: Path, pixels: Sequence["NDArray[np.uint8]"], records: Sequence[Record]) -> None:
    """Write the dataset file (`pixels`: RGBA pictures of one size), whole or not at all. Raises OutputError when it can't be written."""
    write_pictures(path, [encode(picture) for picture in pixels], records, size=len(pixels[0]) if len(pixels) else 0)


def write_pictures(
    path: Path, pictures: Sequence[bytes], records: Sequence[Record], *, size: int, shard_mb: float | None = None
) -> tuple[Path, ...]:
    """Write pictures as `encode` made them: the file `path`, or `NAME-1-of-N` and so on, each under `shard_mb` million bytes.

    Returns the files; what an earlier build left under the name is gone after.
    Raises DataError when a single picture is too large for that, OutputError when a file can't be written.
    """
    entries = [json.dumps(asdict(record), ensure_ascii=False, sort_keys=True) for record in records]
    parts = [range(len(pictures))] if shard_mb is None else _parts(pictures, entries, shard_mb * 1e6)
    build = hashlib.sha256(b"".join(pictures) + "\n".join(entries).encode()).hexdigest()
    paths = [path] if shard_mb is None else [_part_path(path, i, len(parts)) for i in range(1, len(parts) + 1)]
    for i, (part, file) in enumerate(zip(parts, paths, strict=True), start=1):
        head = json.dumps({"format": _FORMAT, "size": size, "build": build, "part": [i, len(parts)]}, sort_keys=True)
        metadata = f'{head[:-1]}, "records": [{", ".join(entries[row] for row in part)}]}}'
        offsets = np.cumsum([0, *(len(pictures[row]) for row in part)], dtype=np.int64)
        webp = np.frombuffer(b"".join(pictures[row] for row in part), np.uint8)
        write_whole(file, save({"webp": webp, "offsets": offsets}, metadata={_METADATA_KEY: metadata}), overwrite=True)
    for old in {path, *_part_files(path)} - set(paths):
        old.unlink(missing_ok=True)
    return tuple(paths)


def _parts(pictures: Sequence[bytes], entries: Sequence[str], limit: float) -> list[range]:
    """Runs of pictures whose files stay under the limit."""
    parts: list[range] = []
    start, filled = 0, _HEAD_BYTES
    for row, (picture, entry) in enumerate(zip(pictures, entries, strict=True)):
        # the metadata is a JSON string within a JSON header: its quotation marks are escaped
        weight = len(picture) + len(json.dumps(entry, ensure_ascii=False).encode()) + _BYTES_A_PICTURE
        if weight + _HEAD_BYTES > limit:
            raise DataError(f"a picture of {len(picture)} bytes doesn't fit a file of {limit:.0f}; allow larger files.")
        if filled + weight > limit:
            parts.append(range(start, row))
            start, filled = row, _HEAD_BYTES
        filled += weight
    return [*parts, range(start, len(pictures))]


def _part_path(path: Path, i: int, count: int) -> Path:
    return path.with_name(f"{path.stem}-{i:0{len(str(count))}}-of-{count}{path.suffix}")


def _part_files(path: Path) -> list[Path]:
    return sorted(
        p for p in path.parent.glob(f"*{path.suffix}") if (m := _PART_NAME.fullmatch(p.stem)) and m[1] == path.stem
    )


def _files_of(path: Path) -> list[Path]:
    """The files of a dataset, whichever of them was named: itself, or all parts of it."""
    if path.exists() and not _PART_NAME.fullmatch(path.stem):
        return [path]
    match = _PART_NAME.fullmatch(path.stem)
    first = next(iter(_part_files(path)), None) if match is None else path
    if first is None or (match := _PART_NAME.fullmatch(first.stem)) is None:
        return [path]
    whole, count = first.with_name(match[1] + first.suffix), int(match[2])
    return [_part_path(whole, i, count) for i in range(1, count + 1)]


def _read_file(path: Path) -> tuple[list[bytes], list[Record], dict[str, Any]]:
    with safe_open(path, framework="np") as file:
        content = json.loads((file.metadata() or {})[_METADATA_KEY])
        if content["format"] != _FORMAT:
            raise DataError(
                f"{path} is of format {content['format']}, expected {_FORMAT}; build it again: sfumato data build."
            )
        webp, offsets = file.get_tensor("webp").tobytes(), file.get_tensor("offsets").tolist()
    if offsets[0] != 0 or offsets[-1] != len(webp) or len(offsets) != len(content["records"]) + 1:
        raise ValueError("its offsets don't fit its pictures")
    pictures = [webp[start:stop] for start, stop in pairwise(offsets)]
    records = [
        Record(**{**r, "names": tuple(r["names"]), "keywords": tuple(r["keywords"])}) for r in content["records"]
    ]
    return pictures, records, content


def read_dataset(path: Path | str) -> ArtDataset:
    """Read a dataset; one in several files when its name, or any of them, is given.

    Raises DataError when it or a part of it is missing, damaged, of another build or an older format, or not such a file.
    """
    file = Path(path)
    pictures: list[bytes] = []
    records: list[Record] = []
    builds: set[tuple[str, int]] = set()
    try:
        for file in _files_of(Path(path)):
            some, theirs, content = _read_file(file)
            pictures += some
            records += theirs
            builds.add((content.get("build", ""), content["size"]))
        if len(builds) != 1:
            raise DataError(
                f"{path} and its other parts are of different builds; build them again: sfumato data build."
            )
        return ArtDataset(_decode_all(pictures, builds.pop()[1]), tuple(records))
    except FileNotFoundError as error:
        raise DataError(f"no training data at {file}; make it first: sfumato data build.") from error
    except (SafetensorError, UnidentifiedImageError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is not a dataset file or is damaged ({error}); build it again: sfumato data build."
        ) from error


def _decode_all(pictures: Sequence[bytes], size: int) -> "NDArray[np.uint8]":
    pixels = np.empty((len(pictures), size, size, 4), np.uint8)
    for i, picture in enumerate(pictures):
        decoded = decode(picture)
        if decoded.shape != pixels.shape[1:]:
            raise ValueError(f"picture {i} is of shape {decoded.shape}, expected {pixels.shape[1:]}")
        pixels[i] = decoded
    return pixels
