"""What the values of a pickle may take in memory: about what its file has, and a bound, however they refer to each other."""

import pytest

from sfumato.checkpoints import pickle_reader
from sfumato.checkpoints.pickle_reader import PickleReader
from sfumato.errors import CorruptFileError, UnsafeFileError


def read(data: bytes) -> object:
    return PickleReader(memoryview(b"\x80\4" + data + b".")).load()


def text(value: bytes) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value


@pytest.fixture(autouse=True)
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "SLACK", 0)


def test_texts_are_counted_as_they_are_in_memory() -> None:
    """A byte that is no text is written out in four letters, and one letter beyond Latin-1 makes all of them wide."""
    assert read(text(b"a" * 1000)) == "a" * 1000
    for value in (b"\x80" * 1000, b"a" * 990 + "\U0001f600".encode()):
        with pytest.raises(UnsafeFileError, match="more memory than the file has bytes"):
            read(text(value))


def test_a_long_pickle_may_not_take_three_times_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = text(b"a" * 9000) + b"\x8c\x06latin1\x86\x940c_codecs\nencode\nh\0R"
    assert read(twice) == b"a" * 9000
    monkeypatch.setattr(pickle_reader, "MOST_BEYOND", 1000)
    with pytest.raises(UnsafeFileError, match="more memory than the file has bytes"):
        read(twice)


def test_pairs_are_looked_at_before_they_are_copied() -> None:
    pairs = b"ccollections\nOrderedDict\n](K\1K\2\x86](K\3K\4ee\x85R"
    assert read(pairs) == [1, 2, 3, 4]
    assert read(b"ccollections\nOrderedDict\n)R") == []
    for wrong in (b"](](K\1K\2K\3ee", b"](}e", b"](Ne", b"K\1", b"](]e", b"\x8c\2ab"):
        with pytest.raises(CorruptFileError, match="made of something else than pairs"):
            read(b"ccollections\nOrderedDict\n" + wrong + b"\x85R")


def test_names_and_tensors_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = text(b"lightning." + b"m" * 200) + b"\x94" + text(b"n" * 200) + b"\x94](" + b"h\0h\1\x93" * 10 + b"e\x87"
    with pytest.raises(UnsafeFileError, match="more memory than the file has bytes"):
        read(names)
    monkeypatch.setattr(pickle_reader, "SLACK", 5000)
    assert read(names)
