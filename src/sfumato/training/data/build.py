"""`sfumato data build`: fetch, render, filter, caption, pack, count."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import DataError
from sfumato.training.data.captions import Thing, captions_for, read_vocabulary
from sfumato.training.data.drawings import Name, is_allowed, read_drawings, read_names
from sfumato.training.data.fetch import fetch
from sfumato.training.data.pack import Record, Split, write_dataset
from sfumato.training.data.render import render
from sfumato.training.data.sheet import write_sheet
from sfumato.training.data.sources import ART, CODES_FROM, NAMES, Source

_HELD_OUT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build made: the dataset file, its contact sheet, and pictures by (package, licence)."""

    dataset: Path
    sheet: Path
    counts: dict[tuple[str, str], int]
    things: int
    captioned: int


def split_of(name: str, *, is_taught: bool) -> Split:
    """The split of a thing: 5 % of those outside the vocabulary are held out, by a hash of the name, in every style alike."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "held_out" if not is_taught and share < _HELD_OUT_SHARE else "train"


def _record(
    source: Source, code: str, name: Name, taught: dict[str, Thing], captioned_styles: frozenset[str]
) -> Record:
    thing = taught.get(name.name)
    return Record(
        thing=name.name,
        style=source.style,
        code=code,
        source=f"{source.package}@{source.version}",
        licence=source.licence,
        split=split_of(name.name, is_taught=thing is not None),
        captions=tuple(captions_for(thing, source.style)) if thing and source.style in captioned_styles else (),
    )


def build(
    out: Path | str = "runs/data",
    *,
    size: int = 64,
    margin: float = 1 / 32,
    styles: tuple[str, ...] = ("3d", "flat"),
    vocabulary: Path | None = None,
    packages: Path | None = None,
    progress: Callable[[str], None] = print,
) -> BuildReport:
    """Build `out/art-SIZE.safetensors` and its contact sheet from the pinned packages; the same bytes every time.

    `styles` are the looks that get captions (the others train the autoencoder only); `packages` keeps the fetched archives
    (default `out/packages`); `progress` is told a line a stage. Every thing of the vocabulary must be there in every captioned style.
    Raises DataError when a package can't be had or read, or a thing of the vocabulary has no drawing.
    """
    out = Path(out)
    packages = packages or out / "packages"
    taught = {thing.cldr_name: thing for thing in read_vocabulary(vocabulary)}
    names = read_names(fetch(NAMES, packages))
    if unknown := sorted(set(taught) - {n.name for n in names.values()}):
        raise DataError(f"the vocabulary names things the CLDR does not: {', '.join(unknown)}; mend vocabulary.txt.")
    art = {source: read_drawings(source, fetch(source, packages)) for source in ART}
    drawn = next(drawings for source, drawings in art.items() if source.package == CODES_FROM)

    pixels, records = [], []
    for source, drawings in art.items():
        codes = [code for code in drawings if is_allowed(code, names) and code in drawn]
        missing = sorted(set(taught) - {names[code].name for code in codes})
        if source.style in styles and missing:
            raise DataError(
                f"{source.package} has no drawing of {', '.join(missing)}; take them out of the vocabulary."
            )
        for code in codes:
            pixels.append(render(drawings[code], size, margin=margin))
            records.append(_record(source, code, names[code], taught, frozenset(styles)))
        progress(f"{source.package}@{source.version}: {len(codes)} pictures, {source.licence}")

    dataset = out / f"art-{size}.safetensors"
    write_dataset(dataset, pixels, records)
    captioned = [i for i, record in enumerate(records) if record.captions]
    sheet = out / f"art-{size}.png"
    write_sheet(sheet, [pixels[i] for i in captioned], [records[i].captions[0] for i in captioned], columns=24)
    return BuildReport(
        dataset=dataset,
        sheet=sheet,
        counts=dict(Counter((record.source, record.licence) for record in records)),
        things=len(taught),
        captioned=len(captioned),
    )
