"""CLIP's tokenizer: a prompt becomes the row of ids that the text encoder reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from sfumato.errors import ConfigError, OptionError
from sfumato.text.batch import TokenBatch, batch_of
from sfumato.text.cleaning import clean
from sfumato.text.tokenizer_folder import TokenizerSpec, read_tokenizer_folder, write_tokenizer_folder
from sfumato.text.vocabulary import WORD_END, clip_vocabulary

# A run of letters, one digit, or a run of anything else that shows; English endings stand alone. Source: OpenAI CLIP,
# simple_tokenizer.py, where it ignores case: the text is lower-cased already. (There ſ after an apostrophe is an s; not in transformers, nor here.)
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as the text encoder reads it.

    ids      start token, the text's tokens, end token, padding: as many as the tokenizer's max_length
    kept     how many tokens of the text are among the ids; one that stands for several ids counts as these, and is there whole or not at all
    dropped  the text, cleaned, that found no room; "" if all did
    """

    ids: tuple[int, ...]
    kept: int
    dropped: str


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """CLIP's byte-pair tokenizer, over the full vocabulary of CLIP or any other.

    The same ids as transformers' CLIPTokenizer gives for the cleaned text (`sfumato.text.clean` says how cleaning differs from transformers').
    Special and added tokens are found in a prompt when written out, before it is split into words; where padding is a letter, such as the
    "!" of Stable Diffusion 2, that letter is found too. Raises ConfigError when a special token has no id.
    """

    spec: TokenizerSpec
    _backend: tokenizers.Tokenizer = field(init=False, repr=False, compare=False)
    _runs: Mapping[int, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_backend", _backend(self.spec))
        object.__setattr__(self, "_runs", _runs(self.spec.added))

    @classmethod
    def bundled_clip(cls) -> "Tokenizer":
        """The tokenizer of CLIP and of Stable Diffusion 1, from the package: 49,408 tokens, 77 a prompt, padded with the end token."""
        return cls(TokenizerSpec(vocabulary=clip_vocabulary()))

    @classmethod
    def from_folder(cls, folder: str | PathLike[str]) -> "Tokenizer":
        """The tokenizer of a checkpoint. Raises MissingFileError, CorruptFileError, or ConfigError for a tokenizer of another kind."""
        return cls(read_tokenizer_folder(Path(folder)))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write `vocab.json`, `merges.txt` and the configs, as transformers' CLIPTokenizer reads them. Raises OutputError."""
        write_tokenizer_folder(self.spec, Path(folder))

    def reduced(self, texts: Iterable[str], base_merges: int) -> "Tokenizer":
        """A tokenizer with a smaller vocabulary that splits these texts in the same way.

        It keeps the letters, the first `base_merges` merges, and every merge that the texts need; other words fall into shorter pieces.
        Ids are renumbered in the same order, with the start and end tokens last. Raises OptionError when base_merges is negative, and
        ConfigError when tokens were added to the vocabulary.
        """
        if base_merges < 0:
            raise OptionError(f"base_merges is {base_merges}; expected 0 or more")
        if self.spec.added.keys() - self.spec.vocabulary.ids.keys():
            raise ConfigError(
                f"can't reduce a tokenizer with added tokens ({', '.join(self.spec.added)}); reduce it before adding them"
            )
        needed = {"".join(merge) for merge in self.spec.vocabulary.merges[:base_merges]} | set(self.spec.added)
        for text in texts:
            needed.update(self._backend.encode(clean(text)).tokens)
        vocabulary = self.spec.vocabulary.restricted(needed, last=(self.spec.start, self.spec.end))
        added = {token: vocabulary.ids[token] for token in self.spec.added}
        return Tokenizer(replace(self.spec, vocabulary=vocabulary, added=added))

    def with_token(self, token: str, ids: int = 1) -> "Tokenizer":
        """A tokenizer that also knows `token`, written out in a prompt, as the next so many ids; every other text it splits as before.

        One that begins and ends in a letter or digit is found as a whole word only. In a folder it is kept as transformers and diffusers
        keep such tokens: as TOKEN, TOKEN_1, TOKEN_2 … Raises OptionError for a token that is empty, is there already, or is a word.
        """
        written = clean(token)
        if not written or ids < 1:
            raise OptionError(
                f"the token {token!r} of {ids} ids can't be added; expected some letters and 1 id or more"
            )
        names = [written, *(f"{written}_{i}" for i in range(1, ids))]
        known = {name.lower() for name in (*self.spec.added, self.spec.start, self.spec.end, self.spec.pad)}
        if taken := known.intersection((*names, f"{written}_1")):
            raise OptionError(f"the token {min(taken)!r} is there already; give another name")
        if len(self._backend.encode(written).ids) == 1:
            raise OptionError(
                f"{token!r} is a word of this model's vocabulary, which would lose its meaning; give another name, such as <{written}>"
            )
        numbers = range(self.vocab_size, self.vocab_size + ids)
        added = {**self.spec.added, **dict(zip(names, numbers, strict=True))}
        if any(self._runs.get(first, (first,)) != run for first, run in _runs(added).items() if first not in numbers):
            raise OptionError(f"the token {token!r} reads as the continuation of another; give another name")
        bounded = written[0].isalnum() and written[-1].isalnum()
        return Tokenizer(
            replace(
                self.spec,
                added=added,
                whole_words=self.spec.whole_words | (set(names) if bounded else set[str]()),
            )
        )

    def encode(self, text: str) -> Tokens:
        """The ids of a prompt, cut to max_length; what was cut is said in `dropped`."""
        cleaned = clean(text)
        encoding = self._backend.encode(cleaned)
        room = self.max_length - 2  # beside start and end
        kept: list[int] = []
        dropped = ""
        for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            run = self._runs.get(number, (number,))
            if len(kept) + len(run) > room:
                dropped = cleaned[start:]
                break
            kept += run
        padding = [self.pad_id] * (room - len(kept))
        return Tokens(ids=(self.start_id, *kept, self.end_id, *padding), kept=len(kept), dropped=dropped)

    def __call__(self, text: str | Sequence[str], **options: Any) -> TokenBatch:
        """The ids of one text or of several, in the form that transformers' tokenizers give; `batch_of` knows the options."""
        return batch_of(self, text, **options)

    def token_ids(self, text: str) -> list[int]:
        """The ids of a text, however long, without start, end and padding."""
        return [one for run in self.token_runs(text) for one in run]

    def token_runs(self, text: str) -> list[tuple[int, ...]]:
        """The ids of a text, however long, in the groups that belong together: one id each, but for a token that stands for several."""
        return [self._runs.get(number, (number,)) for number in self._backend.encode(clean(text)).ids]

    def ends_word(self, number: int) -> bool:
        """Whether a token's id stands at the end of a word, as that of a whole word does, and of an added token."""
        token = self._backend.id_to_token(number)
        return token is not None and (token.endswith(WORD_END) or number in self.spec.added.values())

    def knows(self, token: str) -> bool:
        """Whether `token` is one that was added to the vocabulary, such as an embedding's."""
        return clean(token) in {name.lower() for name in self.spec.added}

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text as the vocabulary spells them."""
        return self._backend.encode(clean(text)).tokens

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text that ids stand for, cleaned as it was read. Raises OptionError for an id that is no token's."""
        special = {self.start_id, self.end_id, self.pad_id} if skip_special_tokens else set[int]()
        tokens: list[str] = []
        for number in map(int, ids):
            token = self._backend.id_to_token(number) if number >= 0 else None
            if token is None:
                raise OptionError(f"{number} is no token's id; this tokenizer has ids from 0 to {self.vocab_size - 1}")
            if number not in special:
                tokens.append(token)
        # Bytes are spelled as letters, so a word's end is put in place of its mark only afterwards.
        return decoders.ByteLevel().decode(tokens).replace(WORD_END, " ").strip()

    def batch_decode(self, rows: Iterable[Iterable[int]], skip_special_tokens: bool = False) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]

    @property
    def model_max_length(self) -> int:
        """`max_length`, by its name in transformers."""
        return self.max_length

    @property
    def max_length(self) -> int:
        """How many ids a prompt becomes, start, end and padding included."""
        return self.spec.max_length

    @property
    def start_id(self) -> int:
        """The id that opens every prompt."""
        return self._id(self.spec.start)

    @property
    def end_id(self) -> int:
        """The id that closes every prompt; the text encoder's pooled output is read there."""
        return self._id(self.spec.end)

    @property
    def pad_id(self) -> int:
        """The id that fills the row after the end."""
        return self._id(self.spec.pad)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def _id(self, token: str) -> int:
        found = self._backend.token_to_id(token)
        assert found is not None, f"{token!r} was checked when the tokenizer was made"
        return found


def _runs(added: Mapping[str, int]) -> dict[int, tuple[int, ...]]:
    """For each added token that stands for several ids, the first of them → all. So diffusers knows them too: NAME, NAME_1, NAME_2 …"""
    runs: dict[int, tuple[int, ...]] = {}
    for name, number in added.items():
        run = [number]
        while (further := added.get(f"{name}_{len(run)}")) is not None:
            run.append(further)
        if len(run) > 1:
            runs[number] = tuple(run)
    return runs


def _backend(spec: TokenizerSpec) -> tokenizers.Tokenizer:
    """Hugging Face's tokenizer for cleaned text, without the start and end tokens."""
    ids = dict(spec.vocabulary.ids)
    special = dict.fromkeys((spec.start, spec.end, spec.pad, spec.unknown))
    if homeless := [token for token in special if token not in ids]:
        raise ConfigError(
            f"the tokenizer's special token {homeless[0]!r} is not in its vocabulary; vocab.json is of another model, or cut"
        )
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=list(spec.vocabulary.merges), end_of_word_suffix=WORD_END, unk_token=spec.unknown)
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # "removed" and "invert" together: the words stay, what lies between them goes.
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # Prompts are lower-cased before they come here, so an added <My-Style> is looked for as <my-style>. New ids follow the vocabulary's.
    for token, number in sorted(spec.added.items(), key=itemgetter(1)):
        alone = token in spec.whole_words
        backend.add_tokens([AddedToken(token.lower(), normalized=False, single_word=alone)])  # pyright: ignore[reportUnknownMemberType]
        if backend.token_to_id(token.lower()) != number:
            raise ConfigError(
                f"the added token {token!r} has the id {number}; expected the ids after the vocabulary's {len(ids)}, each once"
            )
    literal = [AddedToken(token, special=True, normalized=False) for token in special]
    backend.add_special_tokens(literal)  # pyright: ignore[reportUnknownMemberType]
    return backend
