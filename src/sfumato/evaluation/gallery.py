"""The gallery: what the classifier sees in real art, and how well real art does in the tests that a model is put to.

One safetensors file: descriptors as bytes (each row scaled to its own largest, `n 1280`), and in the metadata what each row shows, the art it
was made of, and real art's scores where they can't be had from descriptors alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sfumato.errors import DataError
from sfumato.evaluation.scores import Score
from sfumato.files import write_whole
from sfumato.training.data.pack import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METADATA_KEY = "sfumato"
_FORMAT = 1
_BYTES = 255

# kind of prompt → style of the art → measure → score
RealScores = Mapping[str, Mapping[str, Mapping[str, Score]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One drawing of real art: the thing, what people call it, its style and split, and the colours that it can be turned to."""

    thing: str
    style: str
    split: Split
    names: tuple[str, ...]
    colours: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Descriptors (`n 1280`, of length 1) of drawings, and what each shows."""

    descriptors: "NDArray[np.float32]"
    entries: tuple[Entry, ...]
    dataset_sha256: str = ""
    picture_size: int = 0
    real_scores: RealScores = field(default_factory=dict)

    @cached_property
    def things(self) -> tuple[str, ...]:
        """Every thing, in order of first appearance."""
        return tuple(dict.fromkeys(entry.thing for entry in self.entries))

    @cached_property
    def styles(self) -> tuple[str, ...]:
        """Every style, in order of first appearance."""
        return tuple(dict.fromkeys(entry.style for entry in self.entries))

    @cached_property
    def _thing_of(self) -> "NDArray[np.int64]":
        place = {thing: i for i, thing in enumerate(self.things)}
        return np.array([place[entry.thing] for entry in self.entries], np.int64)

    @cached_property
    def _row_of(self) -> dict[tuple[str, str], int]:
        return {(entry.thing, entry.style): row for row, entry in enumerate(self.entries)}

    @cached_property
    def sha256(self) -> str:
        """The hash of what pictures are compared with, the same before and after writing; baselines hold for one gallery."""
        digest = hashlib.sha256(repr(self.entries).encode())
        digest.update(quantised(self.descriptors).tobytes())
        return digest.hexdigest()

    def row(self, thing: str, style: str) -> int:
        """The row of the drawing of a thing in a style. Raises KeyError where there is none."""
        return self._row_of[thing, style]

    def nearest(self, descriptor: "NDArray[np.float32]", *, hidden: str | None = None) -> list[str]:
        """All things, the likeliest first: by their most similar drawing, leaving out those in the style `hidden`."""
        similar = self.descriptors @ descriptor
        if hidden is not None:
            similar[[entry.style == hidden for entry in self.entries]] = -np.inf
        best = np.full(len(self.things), -np.inf, np.float32)
        np.maximum.at(best, self._thing_of, similar)
        return [self.things[i] for i in np.argsort(-best, kind="stable") if best[i] > -np.inf]

    def nearest_style(self, descriptor: "NDArray[np.float32]", things: Iterable[str]) -> str:
        """The style of the most similar among all drawings of these things."""
        wanted = set(things)
        rows = [row for row, entry in enumerate(self.entries) if entry.thing in wanted]
        return self.entries[rows[int((self.descriptors[rows] @ descriptor).argmax())]].style

    def where(self, chosen: Callable[[Entry], bool]) -> "NDArray[np.int64]":
        """The rows of the drawings that are chosen."""
        return np.array([row for row, entry in enumerate(self.entries) if chosen(entry)], np.int64)

    def with_real_scores(self, scores: RealScores) -> "Gallery":
        """The same with real art's scores."""
        return replace(self, real_scores=scores)


def quantised(rows: "NDArray[np.float32]") -> "NDArray[np.uint8]":
    """Rows without negative numbers as bytes; each row's largest is 255. Lengths are not kept: descriptors have length 1."""
    return np.round(rows / np.maximum(rows.max(1, keepdims=True), 1e-12) * _BYTES).astype(np.uint8)


def default_gallery_path() -> Path:
    """Where the gallery of the package lies."""
    return Path(str(files("sfumato.evaluation").joinpath("gallery.safetensors")))


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write the gallery file, whole or not at all, in place of one that is there. Raises OutputError."""
    names = {entry.thing: entry.names for entry in gallery.entries}
    content = {
        "format": _FORMAT,
        "dataset_sha256": gallery.dataset_sha256,
        "picture_size": gallery.picture_size,
        "names": names,
        "entries": [[e.thing, e.style, e.split, list(e.colours)] for e in gallery.entries],
        "real_scores": {
            kind: {style: {m: [s.right, s.of] for m, s in scores.items()} for style, scores in styles.items()}
            for kind, styles in gallery.real_scores.items()
        },
    }
    metadata = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    body = save({"descriptors": quantised(gallery.descriptors)}, metadata={_METADATA_KEY: metadata})
    write_whole(path, body, overwrite=True)


def read_gallery(path: Path | None = None) -> Gallery:
    """Read a gallery file (the package's own when no path is given). Raises DataError when it is missing, damaged or not one."""
    path = path or default_gallery_path()
    again = "make it again: sfumato eval gallery DATASET"
    try:
        with safe_open(path, framework="np") as file:
            content = json.loads((file.metadata() or {})[_METADATA_KEY])
            if content["format"] != _FORMAT:
                raise DataError(f"{path} is of format {content['format']}, expected {_FORMAT}; {again}")
            rows = file.get_tensor("descriptors").astype(np.float32)
        names = {thing: tuple(called) for thing, called in content["names"].items()}
        entries = tuple(
            Entry(thing=thing, style=style, split=split, names=names[thing], colours=tuple(colours))
            for thing, style, split, colours in content["entries"]
        )
        if rows.ndim != 2 or len(rows) != len(entries):
            raise DataError(f"{path} holds descriptors of shape {rows.shape} for {len(entries)} drawings; {again}")
        return Gallery(
            descriptors=rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12),
            entries=entries,
            dataset_sha256=content["dataset_sha256"],
            picture_size=content["picture_size"],
            real_scores=_scores(content["real_scores"]),
        )
    except FileNotFoundError as error:
        raise DataError(f"no gallery at {path}; {again}") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a gallery or is damaged ({error}); {again}") from error


def _scores(content: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]) -> RealScores:
    return {
        kind: {style: {m: Score(*pair) for m, pair in scores.items()} for style, scores in styles.items()}
        for kind, styles in content.items()
    }
