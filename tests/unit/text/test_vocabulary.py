import gzip
import hashlib
from importlib.resources import files

from sfumato.text.vocabulary import Vocabulary, clip_vocabulary


def test_the_merges_in_the_package_are_those_of_clip() -> None:
    packed = files("sfumato.text").joinpath("clip_merges.txt.gz").read_bytes()
    # sha256 of lines 2 to 48,895 of the file that OpenAI published (tools/compact_clip_merges.py checks the whole)
    assert (
        hashlib.sha256(gzip.decompress(packed)).hexdigest()
        == "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"
    )
    assert packed[4:8] == b"\0\0\0\0", "a time in the gzip header makes every build differ"


def test_clip_has_its_published_ids() -> None:
    ids = clip_vocabulary().ids
    assert len(ids) == 49408
    known = {"!": 0, "!</w>": 256, "in": 512, "a</w>": 320, "cat</w>": 2368, "photo</w>": 1125}
    known |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert {token: ids[token] for token in known} == known


def test_restricted_keeps_the_way_to_each_token() -> None:
    vocabulary = Vocabulary.from_merges([("a", "b"), ("c", "d"), ("ab", "cd"), ("abcd", "e</w>"), ("x", "y")])
    small = vocabulary.restricted(["abcd"], last=("<|startoftext|>", "<|endoftext|>"))
    assert small.merges == (("a", "b"), ("c", "d"), ("ab", "cd"))
    assert [small.ids[token] for token in ("ab", "cd", "abcd", "<|startoftext|>", "<|endoftext|>")] == [
        512,
        513,
        514,
        515,
        516,
    ]
    assert "abcde</w>" not in small.ids
    assert sorted(small.ids.values()) == list(range(517))
