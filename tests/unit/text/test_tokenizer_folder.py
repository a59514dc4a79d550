import json
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.errors import CheckpointError, ConfigError, CorruptFileError, MissingFileError, OutputError
from sfumato.text import Tokenizer

SMALL = Tokenizer.bundled_clip().reduced(["a red apple"], base_merges=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SMALL.save(tmp_path)
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    contents = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(contents | changes))


def test_saved_and_read_again_is_equal(folder: Path) -> None:
    assert Tokenizer.from_folder(folder) == SMALL
    assert Tokenizer.from_folder(str(folder)) == SMALL


def test_everything_that_can_be_set_is_saved(tmp_path: Path) -> None:
    tokenizer = Tokenizer(replace(SMALL.spec, pad="!", max_length=32, added={"<style>": SMALL.vocab_size}))
    tokenizer.save(tmp_path / "deep" / "tokenizer")
    again = Tokenizer.from_folder(tmp_path / "deep" / "tokenizer")
    assert again == tokenizer
    assert len(again.encode("<style>").ids) == 32


def test_only_vocab_and_merges_mean_clips_defaults(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    assert Tokenizer.from_folder(folder) == SMALL


def test_windows_line_ends_are_read(folder: Path) -> None:
    merges = folder / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert Tokenizer.from_folder(folder) == SMALL


def test_the_special_tokens_map_speaks_louder_than_the_config(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", pad_token="a")
    edit(folder / "special_tokens_map.json", pad_token={"content": "!", "lstrip": False, "normalized": True})
    assert Tokenizer.from_folder(folder).pad_id == 0
    end = {"content": "<|endoftext|>", "special": True}
    edit(folder / "tokenizer_config.json", pad_token="b", added_tokens_decoder={str(SMALL.end_id): end})
    assert Tokenizer.from_folder(folder).pad_id == SMALL.spec.vocabulary.ids["b"]


def test_the_config_of_stable_diffusion_1(folder: Path) -> None:
    def token(content: str) -> dict[str, object]:
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    start, end = token("<|startoftext|>"), token("<|endoftext|>")
    mark = {"__type": "AddedToken"}
    edit(
        folder / "tokenizer_config.json",
        add_prefix_space=False,
        bos_token=mark | start,
        eos_token=mark | end,
        unk_token=mark | end,
        errors="replace",
        name_or_path="openai/clip-vit-large-patch14",
        pad_token="<|endoftext|>",
        special_tokens_map_file="./special_tokens_map.json",
    )
    edit(folder / "special_tokens_map.json", bos_token=start, eos_token=end, unk_token=end, pad_token="<|endoftext|>")
    assert Tokenizer.from_folder(folder) == SMALL


def test_an_unlimited_length_is_clips(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert Tokenizer.from_folder(folder).max_length == 77


def test_tokenizer_json_alone_is_read_in_both_spellings_of_merges(folder: Path) -> None:
    spec = SMALL.spec
    model: dict[str, object] = {
        "vocab": dict(spec.vocabulary.ids),
        "merges": [list(merge) for merge in spec.vocabulary.merges],
    }
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"):
        (folder / name).unlink()
    edit(folder / "tokenizer.json", model=model, added_tokens=[{"id": SMALL.end_id, "content": "<|endoftext|>"}])
    assert Tokenizer.from_folder(folder) == SMALL
    model["merges"] = [" ".join(merge) for merge in spec.vocabulary.merges]
    edit(folder / "tokenizer.json", model=model | {"type": "BPE"})
    assert Tokenizer.from_folder(folder) == SMALL


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(**changes: object):
    return lambda path: edit(path, **changes)


BAD = [
    ("vocab.json", Path.unlink, MissingFileError, "expected vocab.json and merges.txt, or tokenizer.json"),
    ("merges.txt", Path.unlink, MissingFileError, "expected vocab.json and merges.txt, or tokenizer.json"),
    ("vocab.json", cut, CorruptFileError, "not valid JSON"),
    ("vocab.json", lambda path: path.write_text("[1]"), CorruptFileError, "expected a JSON object"),
    ("vocab.json", lambda path: path.write_text("{}"), CorruptFileError, "empty"),
    ("vocab.json", lambda path: path.write_bytes(b"\xff\xfe\x00"), CorruptFileError, "not UTF-8"),
    ("vocab.json", rewrite(a="one"), CorruptFileError, "expected a whole number"),
    ("vocab.json", rewrite(zzz=0), CorruptFileError, "share an id"),
    ("merges.txt", lambda path: path.write_text("a b c\n"), CorruptFileError, "line 1.*not a pair"),
    ("merges.txt", lambda path: path.write_text("x qz\n"), CorruptFileError, "which the vocabulary lacks"),
    ("tokenizer_config.json", cut, CorruptFileError, "not valid JSON"),
    ("tokenizer_config.json", rewrite(tokenizer_class="T5Tokenizer"), ConfigError, "T5Tokenizer.*only CLIP"),
    ("tokenizer_config.json", rewrite(model_max_length="long"), ConfigError, "model_max_length is 'long'"),
    ("tokenizer_config.json", rewrite(model_max_length=2), ConfigError, "model_max_length is 2"),
    ("tokenizer_config.json", rewrite(model_max_length=float("nan")), ConfigError, "model_max_length is nan"),
    ("tokenizer_config.json", rewrite(added_tokens_decoder=[]), CorruptFileError, "added_tokens_decoder is not"),
    ("tokenizer_config.json", rewrite(added_tokens_decoder={"x": "a"}), CorruptFileError, "names the id 'x'"),
    ("special_tokens_map.json", rewrite(bos_token="<s>"), ConfigError, "'<s>' is not in its vocabulary"),
    ("special_tokens_map.json", rewrite(bos_token=7), ConfigError, "bos_token is 7"),
    ("special_tokens_map.json", rewrite(bos_token={"content": "a", "lstrip": True}), ConfigError, "sets lstrip"),
    ("added_tokens.json", lambda path: path.write_text('{"<x>": 99999}'), ConfigError, "has the id 99999"),
    ("added_tokens.json", lambda path: path.write_text('{"a": 99999}'), ConfigError, "has the id 99999"),
]


@pytest.mark.parametrize(("name", "damage", "error", "message"), BAD)
def test_a_damaged_or_foreign_folder_is_refused_in_one_line(
    folder: Path, name: str, damage, error, message: str
) -> None:
    damage(folder / name)
    with pytest.raises(error, match=message) as raised:
        Tokenizer.from_folder(folder)
    assert isinstance(raised.value, CheckpointError)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no 'model'"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "its model is 'Unigram'"),
        ({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [{"content": "a"}]}, "has no id"),
        ({"model": {"vocab": {"a": 0}, "merges": ["a"]}}, "not a pair"),
    ],
)
def test_a_bad_tokenizer_json_is_refused(tmp_path: Path, contents: object, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no tokenizer folder"):
        Tokenizer.from_folder(tmp_path / "none")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't write the tokenizer"):
        SMALL.save(tmp_path / "file" / "tokenizer")
