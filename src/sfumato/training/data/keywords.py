"""Keywords: the words by which people search for an emoji, beside its name."""

import json
import tarfile
from pathlib import Path

from sfumato.training.data.colours import NAMES as COLOURS
from sfumato.training.data.drawings import normalise_code, reading

_MEMBER = "package/en/data.json"
# An apple that was recoloured is no longer found under "red".
_COLOUR_WORDS = frozenset(COLOURS) | {
    "grey",
    "violet",
    "cyan",
    "indigo",
    "lavender",
    "golden",
    "gold",
    "silver",
    "slate",
}


def read_keywords(path: Path) -> dict[str, tuple[str, ...]]:
    """Every emoji's English keywords by code, lower case and without colours, in the order of the `emojibase-data` archive.

    Raises DataError when the archive is damaged or not that package.
    """
    with reading(path), tarfile.open(path) as archive:
        table = json.loads(archive.extractfile(_MEMBER).read())  # pyright: ignore[reportOptionalMemberAccess]
        return {
            normalise_code(entry["hexcode"]): tuple(
                tag
                for tag in dict.fromkeys(map(str.lower, entry.get("tags", ())))
                if _COLOUR_WORDS.isdisjoint(tag.split())
            )
            for entry in table
        }
