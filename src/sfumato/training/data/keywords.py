"""Keywords: the words by which people search for an emoji, beside its name."""

import json
import tarfile
from pathlib import Path

from sfumato.errors import DataError
from sfumato.training.data.drawings import normalise_code

_MEMBER = "package/en/data.json"


def read_keywords(path: Path) -> dict[str, tuple[str, ...]]:
    """Every emoji's English keywords by code, lower case, in the order of the `emojibase-data` archive.

    Raises DataError when the archive is damaged or not that package.
    """
    try:
        with tarfile.open(path) as archive:
            table = json.loads(archive.extractfile(_MEMBER).read())  # pyright: ignore[reportOptionalMemberAccess]
        return {
            normalise_code(entry["hexcode"]): tuple(dict.fromkeys(tag.lower() for tag in entry.get("tags", ())))
            for entry in table
        }
    except (tarfile.TarError, EOFError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds no keywords ({error}); delete the file and build again.") from error
