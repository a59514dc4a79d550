"""A byte-pair vocabulary: which tokens there are, their ids, and which pairs merge into which, in what order."""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from tokenizers.pre_tokenizers import ByteLevel

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
WORD_END = "</w>"

Merge = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Token ids, and the merges in order of rank.

    A word is spelled in the 256 byte letters, its last letter marked with `</w>`; the pair of lowest rank merges first, until none is left.
    Source: Sennrich et al. 2016, arXiv:1508.07909; over bytes: Radford et al. 2019 (GPT-2), section 2.2.
    """

    ids: Mapping[str, int] = field(repr=False)
    merges: tuple[Merge, ...] = field(repr=False)

    @classmethod
    def from_merges(cls, merges: Sequence[Merge]) -> "Vocabulary":
        """The vocabulary that CLIP builds on a list of merges: byte letters, letters that end a word, merges, start and end."""
        # ByteLevel gives each byte a printable letter; CLIP numbers them by code point, which is how the letters sort.
        letters = sorted(ByteLevel.alphabet())
        word_ends = [letter + WORD_END for letter in letters]
        products = [left + right for left, right in merges]
        tokens = [*letters, *word_ends, *products, START_TOKEN, END_TOKEN]
        return cls(ids={token: number for number, token in enumerate(tokens)}, merges=tuple(merges))

    def restricted(self, tokens: Iterable[str], *, last: Sequence[str]) -> "Vocabulary":
        """The smallest vocabulary that spells as this one does every word made of `tokens`: renumbered in order, with `last` at the end.

        Kept are all unmerged letters, the tokens, and every token on the way to them. While a word is spelled with the kept merges, its
        best pair in the full list is always among them, so each step is the same, and so is the spelling.
        """
        halves = {left + right: (left, right) for left, right in self.merges}
        kept: set[str] = set()
        waiting = list(tokens)
        while waiting:
            token = waiting.pop()
            if token in halves and token not in kept:
                kept.add(token)
                waiting.extend(halves[token])
        in_order = sorted(self.ids, key=self.ids.__getitem__)
        remaining = [token for token in in_order if token not in last and (token in kept or token not in halves)]
        return Vocabulary(
            ids={token: number for number, token in enumerate([*remaining, *last])},
            merges=tuple(merge for merge in self.merges if "".join(merge) in kept),
        )


@cache
def clip_vocabulary() -> Vocabulary:
    """OpenAI CLIP's 49,408 tokens, from the merges in the package (`tools/compact_clip_merges.py` says how they were made)."""
    packed = files("sfumato.text").joinpath("clip_merges.txt.gz").read_bytes()
    merges: list[Merge] = []
    for line in gzip.decompress(packed).decode("utf-8").rstrip("\n").split("\n"):
        left, right = line.split(" ")
        merges.append((left, right))
    return Vocabulary.from_merges(merges)
