"""What a drawing shows, where its package doesn't say it by emoji code: from its name, or from our list of drawings."""

import re
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sfumato.errors import DataError
from sfumato.training.data.drawings import Name
from sfumato.training.data.sources import Source

_THINGS = "things"
_ICON_GROUP = "Icons"


@dataclass(frozen=True, slots=True)
class DrawingList:
    """Our list of drawings: the things that the CLDR has no name for, and by package what each drawing shows ("" = leave it out)."""

    things: tuple[str, ...]
    shown: dict[str, dict[str, str]]


def key_of(name: str) -> str:
    """A name reduced to its lower-case letters and digits, as packages spell it each in their way: "T-Rex", "t rex" → "trex"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())


def read_drawing_list(path: Path | None = None) -> DrawingList:
    """Read a list of drawings (the package's own when no path is given).

    Raises DataError for a file that can't be read or a line that is not of its form.
    """
    try:
        text = (path or files("sfumato.training.data").joinpath("drawings.txt")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of drawings can't be read: {error}.") from error
    things: list[str] = []
    shown: dict[str, dict[str, str]] = {}
    section = ""
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            shown.setdefault(section, {})
        elif section == _THINGS:
            things.append(line)
        else:
            drawing, colon, name = (part.strip() for part in line.partition(":"))
            if not section or not colon or not drawing or drawing in shown[section]:
                raise DataError(
                    f"line {number} of the list of drawings ({line!r}) is not `drawing: name`, comes before any package, or lists a "
                    "drawing twice; mend it."
                )
            shown[section][drawing] = name
    shown.pop(_THINGS, None)
    return DrawingList(tuple(things), shown)


class Naming:
    """Finds what drawings show: a code for every name, of the CLDR, of Unicode's characters, and of our own list.

    Raises DataError when the list names a thing that nobody knows.
    """

    def __init__(self, names: dict[str, Name], listed: DrawingList) -> None:
        self.names = names | {f"icon-{thing.replace(' ', '-')}": Name(thing, _ICON_GROUP) for thing in listed.things}
        self._shown = listed.shown
        self._by_label: dict[str, str] = {}
        self._by_character: dict[str, str] = {}
        for code, name in self.names.items():
            self._by_label.setdefault(key_of(name.name), code)
            if code in names and "-" not in code:
                self._by_character.setdefault(key_of(unicodedata.name(chr(int(code, 16)), "")), code)
        known = {label for of_package in listed.shown.values() for label in of_package.values() if label}
        if unknown := sorted(label for label in known if key_of(label) not in self._by_label):
            raise DataError(
                f"the list of drawings names things that nobody knows: {', '.join(unknown)}; mend drawings.txt."
            )

    def left_out(self, source: Source) -> frozenset[str]:
        """The drawings of a package that our list says to leave out."""
        return frozenset(drawing for drawing, label in self._shown.get(source.package, {}).items() if not label)

    def codes(self, source: Source, drawings: list[str]) -> dict[str, str]:
        """The code of each drawing of a package that shows something; the surest drawing of a code first, and only that one.

        Raises DataError when our list has a drawing that the package has not.
        """
        listed = self._shown.get(source.package, {})
        if gone := sorted(set(listed) - set(drawings)):
            raise DataError(f"{source.package} has no drawing called {', '.join(gone)}; mend drawings.txt.")
        ways = [{drawing: self._by_label[key_of(label)] for drawing, label in listed.items() if label}]
        if source.kind == "by-name":
            free = [drawing for drawing in drawings if drawing not in listed]
            for spell in (key_of, _key_without_number):
                ways += [
                    {drawing: codes[spell(drawing)] for drawing in free if spell(drawing) in codes}
                    for codes in (self._by_label, self._by_character)
                ]
        found: dict[str, str] = {}
        taken: set[str] = set()
        for way in ways:
            for drawing, code in way.items():
                if drawing not in found and code not in taken:
                    found[drawing] = code
                    taken.add(code)
        return found


def _key_without_number(drawing: str) -> str:
    # streamline's sets number the drawings of one thing: "fox-face-1", "fox-face-2"
    return key_of(re.sub(r"-\d+$", "", drawing))
