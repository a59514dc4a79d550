"""One file of training art: pictures with their transparency and, for each, what it shows, where it comes from and what it is called.

The file is a safetensors file: the pictures as lossless WebP, one after another (`webp`, bytes), where each begins and the last ends
(`offsets`, n + 1), and the records as JSON in its metadata. Compact, read without running anything, and byte for byte the same whenever it
is built from the same packages.
"""

import hashlib
import io
import json
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
        for i, row in enumerate(
            chosen
        ):  # one at a time: a copy of all in wider numbers would be several times the data
            flat[i] = over_white(self.pixels[row])
        return flat


def over_white(rgba: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """A picture with straight alpha (`… 4`, uint8) over a white ground (`… 3`)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _encode(picture: "NDArray[np.uint8]") -> bytes:
    file = io.BytesIO()
    # exact: the colours under full transparency are kept as well, so that what is read is what was written.
    Image.fromarray(picture, "RGBA").save(file, "WEBP", lossless=True, exact=True, quality=80, method=4)
    return file.getvalue()


def write_dataset(path: Path, pixels: Sequence["NDArray[np.uint8]"], records: Sequence[Record]) -> None:
    """Write the dataset file (`pixels`: RGBA pictures of one size), whole or not at all. Raises OutputError when it can't be written."""
    files = [_encode(picture) for picture in pixels]
    offsets = np.cumsum([0, *map(len, files)], dtype=np.int64)
    content = {"format": _FORMAT, "size": len(pixels[0]) if len(pixels) else 0, "records": [asdict(r) for r in records]}
    metadata = json.dumps(content, ensure_ascii=False, sort_keys=True)
    webp = np.frombuffer(b"".join(files), np.uint8)
    write_whole(path, save({"webp": webp, "offsets": offsets}, metadata={_METADATA_KEY: metadata}), overwrite=True)


def _decode(webp: "NDArray[np.uint8]", offsets: "NDArray[np.int64]", size: int) -> "NDArray[np.uint8]":
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(webp) or (np.diff(offsets) <= 0).any():
        raise ValueError("its offsets don't fit its pictures")
    pixels = np.empty((len(offsets) - 1, size, size, 4), np.uint8)
    for i, (start, stop) in enumerate(pairwise(offsets.tolist())):
        with Image.open(io.BytesIO(webp[start:stop].tobytes()), formats=["WEBP"]) as picture:
            if picture.size != (size, size):
                raise ValueError(f"picture {i} is {picture.size[0]} x {picture.size[1]}, expected {size} x {size}")
            pixels[i] = np.asarray(picture.convert("RGBA"))
    return pixels


def _record(content: dict[str, Any]) -> Record:
    return Record(**{**content, "names": tuple(content["names"]), "keywords": tuple(content["keywords"])})


def read_dataset(path: Path | str) -> ArtDataset:
    """Read a dataset file.

    Raises DataError when it is missing, damaged, of an older format, or not such a file.
    """
    try:
        with safe_open(path, framework="np") as file:
            content = json.loads((file.metadata() or {})[_METADATA_KEY])
            if content["format"] != _FORMAT:
                raise DataError(
                    f"{path} is of format {content['format']}, expected {_FORMAT}; build it again: sfumato data build."
                )
            records = tuple(_record(r) for r in content["records"])
            return ArtDataset(_decode(file.get_tensor("webp"), file.get_tensor("offsets"), content["size"]), records)
    except FileNotFoundError as error:
        raise DataError(f"no training data at {path}; make it first: sfumato data build.") from error
    except (SafetensorError, UnidentifiedImageError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a dataset file or is damaged ({error}); build it again: sfumato data build."
        ) from error
