"""`sfumato data build`: fetch, render, filter, name, split, pack, count."""

import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import DataError
from sfumato.training.data.drawings import Drawing, is_allowed, read_drawings, read_names
from sfumato.training.data.fetch import fetch
from sfumato.training.data.keywords import read_keywords
from sfumato.training.data.pack import Record, Split, over_white, write_dataset
from sfumato.training.data.render import render
from sfumato.training.data.sheet import write_sheet
from sfumato.training.data.sources import ART, CODES_FROM, KEYWORDS, NAMES
from sfumato.training.data.vocabulary import Thing, read_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STYLES = ("3d", "glossy", "flat", "noto", "twemoji")
_HELD_OUT_SHARE = 0.05
_FEWEST_STYLES = 2
_FEW_ENOUGH_FOR_ONE_PROCESS = 64


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made: the dataset file, its contact sheet, and pictures by (package, licence)."""

    dataset: Path
    sheet: Path
    counts: dict[tuple[str, str], int]
    things: int
    taught: int
    held_out: int


def split_of(name: str, *, is_taught: bool) -> Split:
    """The split of a thing: 5 % of those outside the vocabulary are held out, by a hash of the name, in every style alike."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "held_out" if not is_taught and share < _HELD_OUT_SHARE else "train"


def held_out_pairs(pairs: Iterable[tuple[str, str]], count: int, styles: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Which (thing, style) pairs are never trained on: the `count` of smallest hash among those styles.

    Each thing keeps at least two styles, so that what it is and what a style is are both learned. Raises DataError when there are not so many.
    """
    pairs, styles = set(pairs), set(styles)
    left = Counter(thing for thing, _ in pairs)
    chosen: set[tuple[str, str]] = set()
    for thing, style in sorted(pairs, key=lambda pair: hashlib.sha256("/".join(pair).encode()).digest()):
        if len(chosen) < count and style in styles and left[thing] > _FEWEST_STYLES:
            chosen.add((thing, style))
            left[thing] -= 1
    if len(chosen) < count:
        raise DataError(
            f"{count} pairs can't be held out: only {len(chosen)} leave their thing two styles to learn from; ask for fewer."
        )
    return frozenset(chosen)


def _split_pairs(records: Sequence[Record], count: int, styles: Iterable[str]) -> list[Record]:
    pairs = held_out_pairs(((r.thing, r.style) for r in records if r.names), count, styles)
    return [replace(r, split="held_out") if r.names and (r.thing, r.style) in pairs else r for r in records]


def _render_all(drawings: Sequence[Drawing], size: int, margin: float, workers: int) -> "list[NDArray[np.uint8]]":
    draw = partial(render, size=size, margin=margin)
    if workers == 1 or len(drawings) < _FEW_ENOUGH_FOR_ONE_PROCESS:
        return [draw(drawing) for drawing in drawings]
    # spawn: a fork would copy the threads' locks of whatever the caller has running
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(draw, drawings, chunksize=16))


def _check_vocabulary(records: Sequence[Record], taught: dict[str, Thing]) -> None:
    """Every thing must be there in at least two styles, or nothing could tell the thing from the style."""
    styles_of: dict[str, set[str]] = {name: set() for name in taught}
    for record in records:
        if record.names:
            styles_of[record.thing].add(record.style)
    if lacking := sorted(name for name, styles in styles_of.items() if len(styles) < _FEWEST_STYLES):
        raise DataError(
            f"no drawings in two styles of {', '.join(lacking)}; take them out of the vocabulary or name more styles."
        )


def build(
    out: Path | str = "runs/data",
    *,
    size: int = 64,
    margin: float = 1 / 32,
    styles: tuple[str, ...] = STYLES,
    held_out: int = 200,
    held_out_styles: tuple[str, ...] | None = None,
    vocabulary: Path | None = None,
    packages: Path | str | None = None,
    workers: int | None = None,
    progress: Callable[[str], None] = print,
) -> BuildReport:
    """Build `out/art-SIZE.safetensors` and its contact sheet from the pinned packages; the same bytes every time.

    `styles` are the looks that are taught (the others train the autoencoder only); `held_out` pairs of thing and style, among
    `held_out_styles` (default all that are taught), are kept from training; `packages` keeps the fetched archives (default `out/packages`);
    `workers` processes render; `progress` is told a line a stage.
    Raises DataError when a package can't be had or read, a style or thing is unknown, or a thing is drawn in fewer than two styles.
    """
    out = Path(out)
    packages = Path(packages) if packages else out / "packages"
    workers = workers or min(os.cpu_count() or 1, 8)
    if unknown := sorted({*styles, *(held_out_styles or ())} - {source.style for source in ART}):
        known = ", ".join(source.style for source in ART)
        raise DataError(f"no style is called {', '.join(unknown)}; the styles are {known}.")
    taught = {thing.cldr_name: thing for thing in read_vocabulary(vocabulary)}
    names = read_names(fetch(NAMES, packages))
    keywords = read_keywords(fetch(KEYWORDS, packages))
    if unknown := sorted(set(taught) - {n.name for n in names.values()}):
        raise DataError(f"the vocabulary names things the CLDR does not: {', '.join(unknown)}; mend vocabulary.txt.")
    archives = {source.package: fetch(source, packages) for source in ART}
    art = {s: read_drawings(s, archives[s.package], archives.get(s.codes_from)) for s in ART}
    drawn = next(drawings for source, drawings in art.items() if source.package == CODES_FROM)

    pixels: list[NDArray[np.uint8]] = []
    records: list[Record] = []
    for source, drawings in art.items():
        codes = [code for code in drawings if is_allowed(code, names) and code in drawn]
        pixels += _render_all([drawings[code] for code in codes], size, margin, workers)
        for code in codes:
            name = names[code].name
            thing = taught.get(name)
            record = Record(
                thing=name,
                style=source.style,
                code=code,
                source=f"{source.package}@{source.version}",
                licence=source.licence,
                split=split_of(name, is_taught=thing is not None),
                names=thing.names if thing and source.style in styles else (),
                keywords=keywords.get(code, ()),
            )
            records.append(record)
        progress(f"{source.package}@{source.version}: {len(codes)} pictures, {source.licence}")

    _check_vocabulary(records, taught)
    records = _split_pairs(records, held_out, held_out_styles or styles)
    dataset = out / f"art-{size}.safetensors"
    write_dataset(dataset, pixels, records)
    shown = [i for i, record in enumerate(records) if record.names]
    sheet = out / f"art-{size}.png"
    write_sheet(sheet, [over_white(pixels[i]) for i in shown], [records[i].names[0] for i in shown], columns=24)
    return BuildReport(
        dataset=dataset,
        sheet=sheet,
        counts=dict(Counter((record.source, record.licence) for record in records)),
        things=len(taught),
        taught=len(shown),
        held_out=sum(records[i].split == "held_out" for i in shown),
    )
