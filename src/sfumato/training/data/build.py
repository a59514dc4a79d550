"""`sfumato data build`: fetch, gather, name, render, split, pack, count."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sfumato.errors import DataError
from sfumato.files import write_whole
from sfumato.training.data.drawings import Drawing, read_names
from sfumato.training.data.fetch import fetch
from sfumato.training.data.gather import gather
from sfumato.training.data.keywords import read_keywords
from sfumato.training.data.naming import Naming, read_drawing_list
from sfumato.training.data.pack import Record, Split, decode, encode, over_white, write_pictures
from sfumato.training.data.render import render
from sfumato.training.data.sheet import write_sheet
from sfumato.training.data.sources import ART, KEYWORDS, NAMES, Source
from sfumato.training.data.vocabulary import Concept, Thing, read_synonyms, read_vocabulary, things_of_all

STYLES = ("3d", "glossy", "flat", "noto", "twemoji")
_HELD_OUT_SHARE = 0.05
_FEWEST_STYLES = 2
_FEW_ENOUGH_FOR_ONE_PROCESS = 64
_MOST_WORKERS = 16
_SHEET_COLUMNS = 32

_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceCount:
    """What one package gave: how many pictures, and how many of them are taught."""

    package: str
    version: str
    licence: str
    author: str
    style: str
    pictures: int
    taught: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildReport:
    """What a build made: the dataset's files, contact sheets by style and the count, which is also written as JSON beside them."""

    files: tuple[Path, ...]
    sheets: tuple[Path, ...]
    report: Path
    sources: tuple[SourceCount, ...]
    things: int
    taught: int
    held_out: int

    @property
    def dataset(self) -> Path:
        """What to give `read_dataset`: the dataset's file, or the first where it is in several."""
        return self.files[0]

    @property
    def licences(self) -> dict[str, int]:
        """Pictures by licence."""
        counts: Counter[str] = Counter()
        for source in self.sources:
            counts[source.licence] += source.pictures
        return dict(sorted(counts.items()))


def split_of(name: str, *, is_taught: bool) -> Split:
    """The split of a thing: 5 % of those outside the vocabulary are held out, by a hash of the name, in every style alike."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "held_out" if not is_taught and share < _HELD_OUT_SHARE else "train"


def held_out_pairs(pairs: Iterable[tuple[str, str]], count: int, styles: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Which (thing, style) pairs are never trained on: the `count` of smallest hash among those styles.

    Each thing keeps at least two styles, so that what it is and what a style is are both learned.
    Raises DataError when there are not so many.
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


def _check_options(size: int, margin: float, held_out: int, quality: int | None, styles: Iterable[str]) -> None:
    if size < 1 or not 0 <= margin < 0.5 or held_out < 0 or (quality is not None and not 0 <= quality <= 100):
        raise DataError(
            f"size {size}, margin {margin}, held_out {held_out} and quality {quality} can't be; expected a size of 1 or more, a margin "
            "of 0 to under 0.5, no fewer than 0 pairs held out and a quality of 0 to 100."
        )
    known = [source.style for source in ART]
    if unknown := sorted(set(styles) - set(known)):
        raise DataError(f"no style is called {', '.join(unknown)}; the styles are {', '.join(known)}.")


def _taught_things(vocabulary: str | Path, concepts: Sequence[Concept]) -> dict[str, Thing]:
    """The things to teach by CLDR name; of a listed vocabulary, each must be drawn in two styles, or nothing could tell it from its style."""
    drawn_often = {c.name for c in concepts if c.styles >= _FEWEST_STYLES}
    listed = read_vocabulary(None if vocabulary in ("listed", "all") else Path(vocabulary))
    if vocabulary == "all":
        return {
            thing.cldr_name: thing
            for thing in things_of_all(concepts, listed, read_synonyms())
            if thing.cldr_name in drawn_often
        }
    if unknown := sorted({thing.cldr_name for thing in listed} - {c.name for c in concepts}):
        raise DataError(f"the vocabulary names things the CLDR does not: {', '.join(unknown)}; mend vocabulary.txt.")
    if lacking := sorted({thing.cldr_name for thing in listed} - drawn_often):
        raise DataError(
            f"no drawings in two styles of {', '.join(lacking)}; take them out of the vocabulary or name more styles."
        )
    return {thing.cldr_name: thing for thing in listed}


def _concepts(naming: Naming, art: dict[Source, tuple[Drawing, ...]], styles: Iterable[str]) -> list[Concept]:
    drawn = Counter(
        drawing.code for source, drawings in art.items() if source.style in set(styles) for drawing in drawings
    )
    return [Concept(name.name, drawn[code]) for code, name in naming.names.items()]


def _workers(wanted: int | None, pictures: int) -> int:
    """How many processes so many pictures are worth: as many as are wanted, by default one a core."""
    return 1 if pictures < _FEW_ENOUGH_FOR_ONE_PROCESS else wanted or min(os.cpu_count() or 1, _MOST_WORKERS)


def _draw(drawing: Drawing, *, size: int, margin: float, quality: int | None) -> bytes:
    return encode(render(drawing, size, margin=margin), quality)


def _by_processes(work: Callable[..., _Made], *parts: Sequence[Any], workers: int, chunk: int = 1) -> list[_Made]:
    """What the work makes of each part, in order; by processes, where there are many pictures in them."""
    if workers == 1:
        return list(map(work, *parts))
    # spawn: a fork would copy the threads' locks of whatever the caller has running
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, *parts, chunksize=chunk))


def build(
    out: Path | str = "runs/data",
    *,
    size: int = 64,
    margin: float = 1 / 32,
    styles: tuple[str, ...] | None = None,
    held_out: int = 200,
    held_out_styles: tuple[str, ...] | None = None,
    vocabulary: str | Path = "listed",
    packages: Path | str | None = None,
    shard_mb: float | None = None,
    quality: int | None = None,
    workers: int | None = None,
    progress: Callable[[str], None] = print,
) -> BuildReport:
    """Build `out/art-SIZE.safetensors`, its contact sheets and its count from the pinned packages; the same bytes every time.

    `vocabulary` is what is taught: `listed` (vocabulary.txt), `all` (every allowed concept that two styles draw) or a file like it.
    `styles` are the looks that are taught (default `STYLES`, and all there are with the vocabulary `all`); the others train the autoencoder
    only. `held_out` pairs of thing and style, among `held_out_styles` (default all that are taught), are kept from training.
    `shard_mb` writes several files, each under so many million bytes; `quality` (0-100) stores colours with loss, transparency without.
    `packages` keeps the fetched archives (default `out/packages`); `workers` processes render; `progress` is told a line a stage.
    Raises DataError when a package can't be had or read, a style or thing is unknown, a listed thing is drawn in fewer than two styles, or
    so many pairs can't be held out; OutputError when a file can't be written.
    """
    out = Path(out)
    packages = Path(packages) if packages else out / "packages"
    styles = styles or (tuple(source.style for source in ART) if vocabulary == "all" else STYLES)
    _check_options(size, margin, held_out, quality, (*styles, *(held_out_styles or ())))
    names, keywords = read_names(fetch(NAMES, packages)), read_keywords(fetch(KEYWORDS, packages))
    naming = Naming(names, read_drawing_list())
    archives = {source.package: fetch(source, packages) for source in ART}
    art = {source: gather(source, archives, naming) for source in ART}
    taught = _taught_things(vocabulary, _concepts(naming, art, styles))

    records = [
        _record(source, drawing.code, naming.names[drawing.code].name, taught, styles, keywords)
        for source, drawings in art.items()
        for drawing in drawings
    ]
    pairs = held_out_pairs(((r.thing, r.style) for r in records if r.names), held_out, held_out_styles or styles)
    records = [replace(r, split="held_out") if r.names and (r.thing, r.style) in pairs else r for r in records]

    pictures: list[bytes] = []
    counts: list[SourceCount] = []
    draw = partial(_draw, size=size, margin=margin, quality=quality)
    for source, drawings in art.items():
        pictures += _by_processes(draw, drawings, workers=_workers(workers, len(drawings)), chunk=16)
        counts.append(_count(source, records))
        progress(
            f"{source.package}@{source.version}: {counts[-1].pictures} pictures ({counts[-1].taught} taught), "
            f"{source.style} style, {source.licence}"
        )
    files = write_pictures(out / f"art-{size}.safetensors", pictures, records, size=size, shard_mb=shard_mb)
    sheets = _write_sheets(out, pictures, records, size, _workers(workers, len(pictures)))
    report = BuildReport(
        files=files,
        sheets=sheets,
        report=out / f"art-{size}.json",
        sources=tuple(counts),
        things=len(taught),
        taught=sum(bool(r.names) for r in records),
        held_out=len(pairs),
    )
    write_whole(report.report, _as_json(report), overwrite=True)
    return report


def _record(
    source: Source,
    code: str,
    name: str,
    taught: dict[str, Thing],
    styles: tuple[str, ...],
    keywords: dict[str, tuple[str, ...]],
) -> Record:
    thing = taught.get(name)
    return Record(
        thing=name,
        style=source.style,
        code=code,
        source=f"{source.package}@{source.version}",
        licence=source.licence,
        split=split_of(name, is_taught=thing is not None),
        names=thing.names if thing and source.style in styles else (),
        keywords=keywords.get(code, ()),
    )


def _count(source: Source, records: Sequence[Record]) -> SourceCount:
    own = [record for record in records if record.source == f"{source.package}@{source.version}"]
    return SourceCount(
        package=source.package,
        version=source.version,
        licence=source.licence,
        author=source.author,
        style=source.style,
        pictures=len(own),
        taught=sum(bool(record.names) for record in own),
    )


def _write_sheets(
    out: Path, pictures: Sequence[bytes], records: Sequence[Record], size: int, workers: int
) -> tuple[Path, ...]:
    """A contact sheet for each style that is taught, things in one order in all; what is held out is marked with an asterisk."""
    paths: list[Path] = []
    shown: list[list[bytes]] = []
    labels: list[list[str]] = []
    for style in dict.fromkeys(record.style for record in records if record.names):
        rows = sorted(
            (i for i, record in enumerate(records) if record.names and record.style == style),
            key=lambda i: records[i].names[0].lower(),
        )
        paths.append(out / f"art-{size}-{style}.png")
        shown.append([pictures[i] for i in rows])
        labels.append([("*" if records[i].split == "held_out" else "") + records[i].names[0] for i in rows])
    _by_processes(_write_sheet, paths, shown, labels, workers=min(workers, max(1, len(paths))))
    return tuple(paths)


def _write_sheet(path: Path, pictures: Sequence[bytes], labels: Sequence[str]) -> None:
    write_sheet(path, [over_white(decode(picture)) for picture in pictures], labels, columns=_SHEET_COLUMNS, side=64)


def _as_json(report: BuildReport) -> bytes:
    content = {
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in report.files},
        "things": report.things,
        "pictures": sum(source.pictures for source in report.sources),
        "taught": report.taught,
        "held_out": report.held_out,
        "licences": report.licences,
        "sources": [asdict(source) for source in report.sources],
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
