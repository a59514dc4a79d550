"""The files of a checkpoint's `tokenizer/` folder, read into typed values and written as transformers reads them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sfumato.errors import ConfigError, CorruptFileError, MissingFileError, OutputError
from sfumato.text.vocabulary import END_TOKEN, START_TOKEN, Merge, Vocabulary

CLIP_MAX_LENGTH = 77
# transformers writes 1e30 for "no limit"; nothing that reads CLIP tokens is longer than this.
UNLIMITED = 100_000
KNOWN_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerSpec:
    """What a tokenizer is made of: its vocabulary, its special tokens, its length, and tokens that prompts may spell out.

    Of the `added` ones, those in `whole_words` are found only where no letter or digit adjoins them. Added tokens NAME, NAME_1, NAME_2 …
    are one: where a prompt has the first, it gets all.
    """

    vocabulary: Vocabulary
    start: str = START_TOKEN
    end: str = END_TOKEN
    pad: str = END_TOKEN
    unknown: str = END_TOKEN
    max_length: int = CLIP_MAX_LENGTH
    added: Mapping[str, int] = field(default_factory=dict[str, int])
    whole_words: frozenset[str] = frozenset()


def read_tokenizer_folder(folder: Path) -> TokenizerSpec:
    """Read `vocab.json` and `merges.txt`, else `tokenizer.json`, with `tokenizer_config.json` and `special_tokens_map.json` if they are there.

    As in transformers, the special tokens map speaks louder than the config, unless the config lists its added tokens itself.
    Raises MissingFileError, CorruptFileError, or ConfigError for a tokenizer of another kind.
    """
    if not folder.is_dir():
        raise MissingFileError(f"no tokenizer folder at {folder}; expected a folder with vocab.json and merges.txt")
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocabulary, added = _read_vocab_and_merges(folder), dict[str, int]()
    elif (folder / "tokenizer.json").exists():
        vocabulary, added = _read_tokenizer_json(folder / "tokenizer.json")
    else:
        raise MissingFileError(f"no tokenizer in {folder}; expected vocab.json and merges.txt, or tokenizer.json")

    config = _read_object(folder / "tokenizer_config.json", optional=True)
    class_name = config.get("tokenizer_class", KNOWN_CLASSES[0])
    if class_name not in KNOWN_CLASSES:
        raise ConfigError(
            f"{folder}: tokenizer_class is {class_name!r}; only CLIP's tokenizer is known ({', '.join(KNOWN_CLASSES)})"
        )
    roles = dict(config)
    if "added_tokens_decoder" in config:
        added |= _added_by_id(config["added_tokens_decoder"], folder / "tokenizer_config.json")
    else:
        roles |= _read_object(folder / "special_tokens_map.json", optional=True)
        added |= _ids(_read_object(folder / "added_tokens.json", optional=True), folder / "added_tokens.json")

    def special(role: str, default: str) -> str:
        value = roles.get(role)
        return default if value is None else _content(value, role, folder)

    start, end = special("bos_token", START_TOKEN), special("eos_token", END_TOKEN)
    pad, unknown = special("pad_token", end), special("unk_token", end)
    length = config.get("model_max_length", CLIP_MAX_LENGTH)
    if not isinstance(length, int | float) or not length >= 3:  # NaN is not
        raise ConfigError(f"{folder}: model_max_length is {length!r}; expected a number of tokens, 3 or more")
    for token, number in added.items():
        if vocabulary.ids.get(token, number) != number:
            raise ConfigError(
                f"{folder}: the added token {token!r} has the id {number}, and {vocabulary.ids[token]} in the vocabulary"
            )
    return TokenizerSpec(
        vocabulary=vocabulary,
        start=start,
        end=end,
        pad=pad,
        unknown=unknown,
        max_length=CLIP_MAX_LENGTH if length > UNLIMITED else int(length),
        added={token: number for token, number in added.items() if token not in (start, end, pad, unknown)},
    )


def write_tokenizer_folder(spec: TokenizerSpec, folder: Path) -> None:
    """Write the files that transformers' CLIPTokenizer reads: the same ids come out. Raises OutputError."""
    roles = {"bos_token": spec.start, "eos_token": spec.end, "pad_token": spec.pad, "unk_token": spec.unknown}
    config = {"tokenizer_class": KNOWN_CLASSES[0], "model_max_length": spec.max_length, "do_lower_case": True, **roles}
    texts = {
        "vocab.json": json.dumps(dict(spec.vocabulary.ids), ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in spec.vocabulary.merges),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(roles, indent=2) + "\n",
    }
    if spec.added:
        texts["added_tokens.json"] = json.dumps(dict(spec.added), indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"can't write the tokenizer to {folder}: {error.strerror or error}") from error


def _read_vocab_and_merges(folder: Path) -> Vocabulary:
    ids = _ids(_read_object(folder / "vocab.json"), folder / "vocab.json")
    path = folder / "merges.txt"
    merges: list[Merge] = []
    # Not splitlines(): some letters of a vocabulary count as line ends there.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        pair = line.removesuffix("\r").split(" ")
        if len(pair) == 2 and all(pair) and pair[0] != "#version:":
            merges.append((pair[0], pair[1]))
        elif pair != [""] and pair[0] != "#version:":
            raise CorruptFileError(f"{path}, line {number}: {line!r} is not a pair of tokens")
    return _checked(ids, merges, folder)


def _read_tokenizer_json(path: Path) -> tuple[Vocabulary, dict[str, int]]:
    contents = _read_object(path)
    model = contents.get("model")
    if not isinstance(model, dict):
        raise CorruptFileError(f"{path}: no 'model' in it; expected a tokenizer saved by Hugging Face tokenizers")
    parts = cast("dict[str, object]", model)
    # Early files leave the type out, and only byte-pair models have merges.
    listed, vocab = parts.get("merges"), parts.get("vocab")
    if parts.get("type", "BPE") != "BPE" or not isinstance(listed, list) or not isinstance(vocab, dict):
        raise ConfigError(
            f"{path}: its model is {parts.get('type')!r}; expected CLIP's byte-pair model (BPE with a vocab and merges)"
        )
    merges: list[Merge] = []
    for entry in cast("list[object]", listed):
        match entry.split(" ") if isinstance(entry, str) else entry:
            case [str(left), str(right)] if left and right:
                merges.append((left, right))
            case _:
                raise CorruptFileError(f"{path}: the merge {entry!r} is not a pair of tokens")
    vocabulary = _checked(_ids(cast("dict[str, object]", vocab), path), merges, path)

    added: dict[str, int] = {}
    for entry in cast("list[object]", contents.get("added_tokens") or []):
        number = cast("dict[str, object]", entry).get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int):
            raise CorruptFileError(f"{path}: {entry!r} under added_tokens has no id")
        added[_content(cast("object", entry), "added_tokens", path)] = number
    return vocabulary, added


def _checked(ids: dict[str, int], merges: list[Merge], path: Path) -> Vocabulary:
    """The vocabulary, after looking for what would make ids wrong in silence."""
    if len(set(ids.values())) != len(ids) or min(ids.values(), default=-1) < 0:
        raise CorruptFileError(f"{path}: the vocabulary is empty, or two of its tokens share an id")
    for merge in merges:
        for token in (*merge, "".join(merge)):
            if token not in ids:
                raise CorruptFileError(
                    f"{path}: the merge {' '.join(merge)!r} needs the token {token!r}, which the vocabulary lacks"
                )
    return Vocabulary(ids=ids, merges=tuple(merges))


def _ids(table: Mapping[str, object], path: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    for token, number in table.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise CorruptFileError(f"{path}: the id of {token!r} is {number!r}; expected a whole number")
        ids[token] = number
    return ids


def _added_by_id(decoder: object, path: Path) -> dict[str, int]:
    """`{"49407": {"content": "<|endoftext|>", …}}` as content → id."""
    if not isinstance(decoder, dict):
        raise CorruptFileError(f"{path}: added_tokens_decoder is not an object")
    added: dict[str, int] = {}
    for number, entry in cast("dict[str, object]", decoder).items():
        if not number.isdecimal():
            raise CorruptFileError(f"{path}: added_tokens_decoder names the id {number!r}; expected a whole number")
        added[_content(entry, "added_tokens_decoder", path)] = int(number)
    return added


def _content(value: object, role: str, path: Path) -> str:
    """The text of a token given as a string or as a table like `{"content": "<|endoftext|>", "lstrip": false, …}`."""
    if isinstance(value, str):
        return value
    entry = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    content = entry.get("content")
    if not isinstance(content, str):
        raise ConfigError(f"{path}: {role} is {value!r}; expected a token, or an object with its content")
    for option in ("lstrip", "rstrip", "single_word"):
        if entry.get(option):
            raise ConfigError(
                f"{path}: {role} {content!r} sets {option}, which CLIP's tokens never do and Sfumato does not honour"
            )
    return content


def _read_object(path: Path, *, optional: bool = False) -> dict[str, object]:
    if optional and not path.exists():
        return {}
    try:
        contents: object = json.loads(_read_text(path))
    except ValueError as error:
        raise CorruptFileError(f"{path} is not valid JSON ({error}); copy or download it again") from error
    if not isinstance(contents, dict):
        raise CorruptFileError(f"{path}: expected a JSON object")
    return cast("dict[str, object]", contents)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not UTF-8 text; copy or download it again") from error
    except OSError as error:
        raise MissingFileError(f"can't read {path}: {error.strerror or error}") from error
