"""One file of training art: uint8 pixels and, for each picture, what it shows, where it comes from and how it is asked for.

The file is a safetensors file with one tensor, `pixels` (`n size size 3`), and the records as JSON in its metadata: compact, read without
running anything, and byte for byte the same whenever it is built from the same packages.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sfumato.errors import DataError
from sfumato.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

Split = Literal["train", "held_out"]
_METADATA_KEY = "sfumato"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One picture: the thing's CLDR name, the style, its emoji code, package and licence, split, and captions.

    Pictures of things outside the vocabulary have no captions: the autoencoder learns from them, the U-Net does not.
    """

    thing: str
    style: str
    code: str
    source: str
    licence: str
    split: Split
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtDataset:
    """Pictures (`n size size 3`, uint8) and their records, in the same order."""

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

    def where(self, *, split: Split | None = None, captioned: bool | None = None) -> "NDArray[np.int64]":
        """Indices of the pictures of a split, with or without captions."""
        return np.array(
            [
                i
                for i, record in enumerate(self.records)
                if (split is None or record.split == split)
                and (captioned is None or bool(record.captions) == captioned)
            ],
            dtype=np.int64,
        )


def write_dataset(path: Path, pixels: Sequence["NDArray[np.uint8]"], records: Sequence[Record]) -> None:
    """Write the dataset file, whole or not at all. Raises OutputError when it can't be written."""
    metadata = json.dumps(
        {"format": _FORMAT, "records": [asdict(r) for r in records]}, ensure_ascii=False, sort_keys=True
    )
    write_whole(path, save({"pixels": np.stack(pixels)}, metadata={_METADATA_KEY: metadata}), overwrite=True)


def read_dataset(path: Path | str) -> ArtDataset:
    """Read a dataset file.

    Raises DataError when it is missing, damaged, or not such a file.
    """
    try:
        with safe_open(path, framework="np") as file:
            content = json.loads((file.metadata() or {})[_METADATA_KEY])
            if content["format"] != _FORMAT:
                raise DataError(
                    f"{path} is of format {content['format']}, expected {_FORMAT}; build it again: sfumato data build."
                )
            records = tuple(Record(**{**r, "captions": tuple(r["captions"])}) for r in content["records"])
            pixels = file.get_tensor("pixels")
            if (
                pixels.dtype != np.uint8
                or pixels.ndim != 4
                or pixels.shape[1:] != (pixels.shape[1], pixels.shape[1], 3)
            ):
                raise DataError(
                    f"{path} holds {pixels.dtype} pixels of shape {pixels.shape}, expected uint8, n size size 3; build it again: "
                    "sfumato data build."
                )
            return ArtDataset(pixels, records)
    except FileNotFoundError as error:
        raise DataError(f"no training data at {path}; make it first: sfumato data build.") from error
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path} is not a dataset file or is damaged ({error}); build it again: sfumato data build."
        ) from error
