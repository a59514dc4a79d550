"""What a model's makers say of it, in files beside its networks: settings for a picture, what it can draw, the words it was taught."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sfumato.errors import ConfigError
from sfumato.text.words import KnownWords

SETTINGS = "sfumato.json"
VOCABULARY = "vocabulary.txt"
WORDS = "words.txt"
FILES = (SETTINGS, VOCABULARY, WORDS)
RECOMMENDED = ("num_inference_steps", "guidance_scale", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model's card; each part may be empty, and most models have none of them.

    settings      the object in `sfumato.json`: what is recommended for a picture, the styles, how it was trained
    vocabulary    `vocabulary.txt`: what it is listed as able to draw, one thing a line
    words         `words.txt`: the words its captions were made of, lower-case, one a line (`text.words.collect_words` makes them)
    """

    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    vocabulary: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """The card of a model folder, empty where it has none of the files. Raises ConfigError for a damaged one."""
        return cls(
            settings=_read_settings(folder / SETTINGS),
            vocabulary=_read_lines(folder / VOCABULARY),
            words=_read_lines(folder / WORDS),
        )

    def files(self) -> dict[str, bytes]:
        """The files by name, as `save_folder` writes them and `read` reads them; an empty part has no file."""
        files: dict[str, bytes] = {}
        if self.settings:
            files[SETTINGS] = (json.dumps(dict(self.settings), indent=2) + "\n").encode()
        for name, lines in ((VOCABULARY, self.vocabulary), (WORDS, self.words)):
            if lines:
                files[name] = "".join(f"{line}\n" for line in lines).encode()
        return files

    @property
    def defaults(self) -> dict[str, Any]:
        """What is recommended for a picture: steps, guidance and size in pixels, as far as the settings say."""
        return {name: self.settings[name] for name in RECOMMENDED if name in self.settings}

    def with_defaults(self, defaults: Mapping[str, Any]) -> "Card":
        """The card with other recommendations, and none beside them."""
        kept = {name: value for name, value in self.settings.items() if name not in RECOMMENDED or name in defaults}
        return replace(self, settings=kept | dict(defaults))

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles that a prompt may name."""
        return tuple(self.settings.get("styles", ()))

    @cached_property
    def known_words(self) -> KnownWords | None:
        """The words by which a prompt's unknown ones are told; None where the model does not say which it was taught."""
        return KnownWords(frozenset(word.lower() for word in self.words)) if self.words else None


def _read_settings(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    try:
        values: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON ({error}); restore it or delete it") from error
    settings = cast("dict[str, Any]", values) if isinstance(values, dict) else None
    if settings is None or not all(isinstance(settings.get(name, 1), int | float) for name in RECOMMENDED):
        raise ConfigError(f"{file} must hold numbers for {', '.join(RECOMMENDED)}; restore it or delete it")
    styles: object = settings.get("styles", [])
    if not isinstance(styles, list) or not all(isinstance(style, str) for style in cast("list[object]", styles)):
        raise ConfigError(f"{file} must hold a list of names for styles; restore it or delete it")
    return settings


def _read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a text file that say something; none where there is no file."""
    if not file.exists():
        return ()
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not text in UTF-8 ({error}); restore it or delete it") from error
    return tuple(line.strip() for line in lines if line.strip())
