"""The tokenizer beside transformers' CLIPTokenizer, and beside OpenAI's rule written out anew.

What is the same, and what is not:
- For cleaned text the ids are transformers', always: `clean` is ours and OpenAI's, the rest is shared.
- For a prompt as people type it (ASCII, composed accents, any white space and case) cleaning adds nothing to what transformers does,
  so the ids are the same for the raw prompt too.
- A cleaned text may still hold accents that could be composed: from an entity for a combining mark, or where only the lower-case letter has
  a composed form (T with a diaeresis). transformers would compose them, OpenAI does not, nor do we: these are compared with OpenAI's rule.
"""

import html
import random
import unicodedata
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pytest
import regex
from transformers import CLIPTokenizer

from sfumato.errors import OptionError, PromptError, UnsupportedError
from sfumato.text import Tokenizer, clean

VOCABULARY = """a an the red apple 3d style cat dog's castle we've they'll it'd I'm don't isn't rock'n'roll 8k 4K 1024x768 1,000.50 f/1.4 artstation
photo-realistic oil_painting @user #tag http://example.com/a?b=c&d=e C++ (masterpiece:1.2) [bad|worse] {x} <lora:thing:0.8> BREAK AND café naïve
Ünïcödé straße ΣΊΣΥΦΟΣ İstanbul ﬁne ½ ² Ⅷ ١٢٣ १२३ 東京 猫 ねこ 고양이 кошка قطة חתול แมว நாய்"""
WORDS = VOCABULARY.split()
PUNCTUATION = list("!?.,;:'\"()[]{}<>|/\\@#$%^&*-_=+~`…—–‘’“”«»¡¿")
ENTITIES = [
    "&amp;",
    "&lt;",
    "&gt;",
    "&quot;",
    "&#39;",
    "&amp;amp;",
    "&amp;lt;b&amp;gt;",
    "&eacute;",
    "&#x1F431;",
    "&nbsp;",
    "&copy",
    "&bogus;",
    "e&#769;",
]
EMOJI = ["🍎", "🐱", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "👍🏽", "☺️", "❤", "🦑🦑🦑", "1️⃣"]
MARKS = ["T̈", "é", "ñ", "å̈", "ạ̀", "ö", "Z̷a̴l̵g̶o̷", "क्षि", "각"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u200b", "\u200d", "\ufeff"]
CONTROLS = ["\x00", "\x07", "\x1b[31m", "\x1c", "\x7f", "\u202e", "\ufff9", "\ud800", "\udfff", "\ufffd", "\ufffe"]
MOJIBAKE = ["cafÃ©", "â€œquotedâ€\x9d", "donâ€™t", "ä½ å¥½", "ï¬‚ower"]
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "<|endoftext", "a<|endoftext|>b"]
KINDS = [WORDS, WORDS, WORDS, PUNCTUATION, ENTITIES, EMOJI, MARKS, SPACES, CONTROLS, MOJIBAKE, SPECIAL]


def random_letter(rng: random.Random) -> str:
    """Any assigned code point but a surrogate, the common planes more often.

    Letters newer than this Python's Unicode tables have no lower case for it, and one for transformers: they are left out.
    """
    while True:
        number = rng.choice(
            [rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x110000)]
        )
        if unicodedata.category(chr(number)) not in ("Cn", "Cs"):
            return chr(number)


def varied_texts(count: int) -> list[str]:
    rng = random.Random(20260701)
    texts = ["", " ", "!", "'", "'s", "''s", "a" * 3000, "🐱" * 300, "<|endoftext|>"]
    while len(texts) < count:
        kind = rng.randrange(4)
        if kind == 0:  # what people write
            texts.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 30))))
        elif kind == 1:  # everything, run together
            texts.append(
                "".join(rng.choice(rng.choice(KINDS)) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 25)))
            )
        elif kind == 2:  # any code points
            texts.append("".join(random_letter(rng) for _ in range(rng.randint(1, 40))))
        else:  # ASCII noise, rich in apostrophes and digits
            texts.append(
                "".join(rng.choice("abcstrveldmABC '''\"0123456789.,;!?-_&#\t\n") for _ in range(rng.randint(1, 60)))
            )
    for _ in range(20):  # 10 kB and more
        parts: list[str] = []
        while sum(map(len, parts)) < 10_000:
            parts.append(rng.choice(rng.choice(KINDS)) + " ")
        texts.append("".join(parts))
    return texts


TEXTS = varied_texts(12_000)


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return Tokenizer.bundled_clip()


@pytest.fixture(scope="module")
def theirs(ours: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    ours.save(folder)
    return CLIPTokenizer.from_pretrained(folder)


def their_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> list[tuple[int, ...]]:
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length).input_ids
    return [tuple(row) for row in rows]


def test_ids_equal_transformers_on_cleaned_text(ours: Tokenizer, theirs: CLIPTokenizer) -> None:
    pairs = [(text, clean(text)) for text in TEXTS]
    comparable = [(text, cleaned) for text, cleaned in pairs if unicodedata.is_normalized("NFC", cleaned)]
    assert len(comparable) >= 10_000
    expected = their_ids(theirs, [cleaned for _, cleaned in comparable])
    wrong = [text for (text, _), ids in zip(comparable, expected, strict=True) if ours.encode(text).ids != ids]
    assert wrong == []


def test_ids_equal_transformers_on_raw_prompts(ours: Tokenizer, theirs: CLIPTokenizer) -> None:
    rng = random.Random(7)
    plain = [
        word for word in WORDS if word not in ("ΣΊΣΥΦΟΣ", "ﬁne")
    ]  # a final sigma and a ligature: cleaning knows them, transformers not
    prompts = [
        "".join(rng.choice(plain) + rng.choice([" ", ", ", "  ", "! ", ".\n", "\t"]) for _ in range(rng.randint(1, 40)))
        for _ in range(1000)
    ]
    wrong = [
        prompt
        for prompt, ids in zip(prompts, their_ids(theirs, prompts), strict=True)
        if ours.encode(prompt).ids != ids
    ]
    assert wrong == []


def test_ids_equal_openai_rule(ours: Tokenizer) -> None:
    """Every text, with nothing left out but those that spell a special token: OpenAI finds these only where its word rule does."""
    ranks = {merge: rank for rank, merge in enumerate(ours.spec.vocabulary.merges)}
    letter_of = openai_letters()
    word_rule = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    spelled: dict[str, list[int]] = {}

    def spell(word: str) -> list[int]:
        parts = [letter_of[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), len(ranks)))
            pair = (parts[best], parts[best + 1])
            if pair not in ranks:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == pair:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        return [ours.spec.vocabulary.ids[part] for part in parts]

    wrong: list[str] = []
    for text in TEXTS:
        cleaned = regex.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text))).strip()).strip().lower()
        if "<|" in cleaned or len(cleaned) > 2000:
            continue
        ids: list[int] = []
        for word in word_rule.findall(cleaned):
            if word not in spelled:
                spelled[word] = spell(word)
            ids.extend(spelled[word])
        got = ours.encode(text)
        if got.ids[1 : 1 + got.kept] != tuple(ids[:75]):
            wrong.append(text)
    assert wrong == []


@pytest.mark.parametrize(
    ("prompt", "cleaned", "first"),
    [
        ("a “red” apple", 'a "red" apple', 2),  # curly quotes: ftfy uncurls them
        ("the witch’s hat", "the witch's hat", 3),
        ("a cafÃ© by the sea", "a café by the sea", 2),  # mojibake: ftfy repairs it
        ("cat &amp; dog", "cat & dog", 3),  # entities: unescaped; the "&" itself is the same token
        ("caf&eacute;, 3d style", "café, 3d style", 1),
    ],
)
def test_openai_s_cleaning_gives_other_ids_than_diffusers_has(
    prompt: str, cleaned: str, first: int, ours: Tokenizer, theirs: CLIPTokenizer
) -> None:
    """Decision 5: the ids differ from diffusers' for the raw prompt, from `first` on, and are diffusers' for the cleaned one."""
    mine, (raw, plain) = ours.encode(prompt).ids, their_ids(theirs, [prompt, cleaned])
    assert clean(prompt) == cleaned
    assert mine == plain
    assert [mine[i] == raw[i] for i in range(first + 1)] == [True] * first + [False]


def openai_letters() -> dict[int, str]:
    """Bytes that print stand for themselves, the others for the code points from 256 on. Source: Radford et al. 2019, its published code."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(256 + place) for place, byte in enumerate(others)}


@pytest.mark.parametrize("change", ["pad", "added", "reduced", "tokenizer_json"])
def test_folders_read_alike(change: str, ours: Tokenizer, tmp_path: Path) -> None:
    """A folder read by both gives the same ids: other padding, added tokens, a small vocabulary, and tokenizer.json alone."""
    if change == "reduced":
        ours.reduced(["a red apple, 3d style", "don't fear the octopus 🐙"], 300).save(tmp_path)
    else:
        ours.save(tmp_path)
    if change == "pad":  # Stable Diffusion 2 pads with "!", and so finds it in prompts
        (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "!"}')
    if change == "added":  # as textual inversion does
        (tmp_path / "added_tokens.json").write_text('{"<my-style>": 49408, "<sks>": 49409}')
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    if change == "tokenizer_json":
        tmp_path = tmp_path / "again"
        theirs.save_pretrained(tmp_path)
        assert not (tmp_path / "vocab.json").exists()
    texts = [*TEXTS[:500], "a cat in <my-style>! wow!!", "<sks>dog <my-style>", "a red apple"]
    texts = [text for text in texts if unicodedata.is_normalized("NFC", clean(text))]
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab_size == len(theirs)
    assert [tokenizer.encode(text).ids for text in texts] == their_ids(theirs, [clean(text) for text in texts])
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == (
        theirs.bos_token_id,
        theirs.eos_token_id,
        theirs.pad_token_id,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"},
        {"padding": "max_length", "truncation": True, "return_tensors": "np"},
        {"padding": True, "max_length": 10, "truncation": True, "return_tensors": "pt"},
        {"padding": "longest"},
        {"truncation": True, "max_length": 5},
        {"add_special_tokens": False},
        {},
    ],
)
def test_a_call_gives_what_transformers_gives(ours: Tokenizer, theirs: CLIPTokenizer, options: dict[str, Any]) -> None:
    for text in ("a red apple", ["a red apple", "an octopus, 3d style, " * 2], [""]):
        if isinstance(text, list) and len(text) > 1 and "return_tensors" in options and "padding" not in options:
            continue
        mine, expected = ours(text, **options), theirs(text, **options)
        for name in ("input_ids", "attention_mask"):
            assert type(mine[name]) is type(expected[name])
            assert np.array_equal(np.asarray(mine[name], dtype=object), np.asarray(expected[name], dtype=object))
        assert mine.input_ids is mine["input_ids"]
    assert ours.model_max_length == theirs.model_max_length


def test_ids_are_decoded_as_transformers_does(ours: Tokenizer, theirs: CLIPTokenizer) -> None:
    texts = ["a red apple", "café 東京 🍎, don't!", "", "two  spaces"]
    rows = ours(texts, padding="max_length", return_tensors="pt").input_ids
    for skip in (True, False):
        assert ours.batch_decode(rows, skip_special_tokens=skip) == [
            text.strip() for text in theirs.batch_decode(rows, skip_special_tokens=skip)
        ]
    assert ours.tokenize("a red apple") == theirs.tokenize("a red apple")


def test_what_a_call_can_not_do_is_said(ours: Tokenizer) -> None:
    with pytest.raises(UnsupportedError, match="return_overflowing_tokens"):
        ours("a", return_overflowing_tokens=True)
    with pytest.raises(OptionError, match="different lengths"):
        ours(["a", "a b"], return_tensors="pt")
    with pytest.raises(OptionError, match="return_tensors 'tf'"):
        ours("a", return_tensors="tf")
    with pytest.raises(OptionError, match="max_length is 2"):
        ours("a", max_length=2)
    with pytest.raises(PromptError, match="a list of strings"):
        ours([1])  # type: ignore[list-item]
    with pytest.raises(OptionError, match="no token's id"):
        ours.decode([49408])
