"""Where the files of a run go: decided, and tried, before the work."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import OptionError
from sfumato.files import check_writable, next_free_path

DEFAULT_FOLDER = "outputs"
SLUG_LENGTH = 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One picture to draw: its words, its seed, and the seed it is varied towards."""

    prompt: str
    seed: int
    variation: int | None = None

    @property
    def stem(self) -> str:
        """The name of its file, from prompt and seeds: `a-red-apple-42`, `a-red-apple-42-7`."""
        return f"{slug(self.prompt)}-{self.seed}" + ("" if self.variation is None else f"-{self.variation}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """A path a picture, one for the grid if it is wanted, and a path a picture for the animations if they are."""

    pictures: tuple[Path, ...]
    grid: Path | None
    animations: tuple[Path, ...]


def plan_outputs(
    shots: Sequence[Shot], out: str | None, *, grid: bool, animate: Path | None, overwrite: bool
) -> Outputs:
    """Choose the paths, make the folders and try to write there.

    `out` is a file (by its suffix) or a folder; files are numbered when there are several pictures. In a folder names come from prompt and
    seed, and files that are there are stepped around.
    Raises OptionError for a suffix that is no picture's, OutputError for what exists (unless `overwrite`) or can't be written.
    """
    from sfumato.images import ANIMATION_FORMATS, FORMATS, format_of

    target = Path(out or DEFAULT_FOLDER)
    as_folder = out is None or out.endswith(("/", "\\")) or target.is_dir() or not target.suffix
    if as_folder:
        stems = [shot.stem for shot in shots]
        pictures = _in_folder(target, stems, overwrite=overwrite)
        grid_path = _in_folder(target, [f"{stems[0]}-grid"], overwrite=overwrite)[0] if grid else None
    else:
        format_of(target, FORMATS)
        pictures = _numbered(target, len(shots))
        grid_path = target.with_stem(f"{target.stem}-grid") if grid else None
    animations: tuple[Path, ...] = ()
    if animate is not None:
        format_of(animate, ANIMATION_FORMATS)
        animations = _numbered(animate, len(shots))
    paths = [*pictures, *animations, *([grid_path] if grid_path else [])]
    if len(set(paths)) < len(paths):
        raise OptionError(f"{animate} would be written twice, as picture and as animation; give them different names")
    for path in paths:
        check_writable(path, overwrite=overwrite)
    return Outputs(pictures=pictures, grid=grid_path, animations=animations)


def _in_folder(folder: Path, stems: Sequence[str], *, overwrite: bool) -> tuple[Path, ...]:
    return tuple(folder / f"{stem}.png" if overwrite else next_free_path(folder, stem, ".png") for stem in stems)


def _numbered(path: Path, count: int) -> tuple[Path, ...]:
    if count == 1:
        return (path,)
    return tuple(path.with_stem(f"{path.stem}-{number}") for number in range(1, count + 1))


def slug(prompt: str) -> str:
    """The beginning of a prompt as a file name: `a-red-apple-3d-style`, at whole words where they fit."""
    whole = re.sub(r"\W+", "-", prompt.lower()).strip("-_")
    if len(whole) > SLUG_LENGTH:
        head = whole[:SLUG_LENGTH]
        whole = head.rpartition("-")[0] or head
    return whole or "picture"
