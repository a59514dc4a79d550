"""Which drawings of a package are learned from, each under the emoji code of what it shows."""

from collections.abc import Mapping
from pathlib import Path

from sfumato.errors import DataError
from sfumato.training.data.drawings import Drawing, is_allowed, read_codes, read_icons, read_webps
from sfumato.training.data.naming import Naming
from sfumato.training.data.sources import Source


def gather(source: Source, archives: Mapping[str, Path], naming: Naming) -> tuple[Drawing, ...]:
    """The allowed drawings of an art package, one a code, in order of code; `archives` are the fetched ones by package.

    Raises DataError when an archive is damaged, or not the package that it should be.
    """
    path = archives[source.package]
    if source.kind == "webp":
        counted = read_codes(archives[source.codes_from])
        found = {code: Drawing(code, "webp", body) for code, body in read_webps(path).items() if code in counted}
    else:
        icons = read_icons(path)
        if source.kind == "by-code":
            names = read_codes(archives[source.codes_from or source.package])
        else:
            names = {code: name for name, code in naming.codes(source, list(icons)).items()}
        shown = icons.keys() - naming.left_out(source)
        found = {code: Drawing(code, "svg", icons[name]) for code, name in names.items() if name in shown}
    allowed = tuple(drawing for code, drawing in sorted(found.items()) if is_allowed(code, naming.names))
    if not allowed:
        raise DataError(f"{path} holds no drawings; it is not the package that sources.py describes.")
    return allowed
