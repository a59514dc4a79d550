import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, OptionError
from sfumato.text import Tokenizer, clean
from sfumato.text.tokenizer_folder import TokenizerSpec
from sfumato.text.vocabulary import Vocabulary

CLIP = Tokenizer.bundled_clip()


def test_a_prompt_is_framed_and_padded() -> None:
    tokens = CLIP.encode("A photo of a cat")
    assert tokens.ids == (49406, 320, 1125, 539, 320, 2368, *[49407] * 71)
    assert (tokens.kept, tokens.dropped) == (5, "")
    assert (CLIP.max_length, CLIP.vocab_size, CLIP.start_id, CLIP.end_id, CLIP.pad_id) == (
        77,
        49408,
        49406,
        49407,
        49407,
    )


def test_an_empty_prompt_is_start_and_end() -> None:
    assert CLIP.encode(" \n").ids == (49406, *[49407] * 76)


def test_exactly_as_long_as_there_is_room_drops_nothing() -> None:
    tokens = CLIP.encode("cat " * 75)
    assert (tokens.kept, tokens.dropped, tokens.ids[-1], len(tokens.ids)) == (75, "", 49407, 77)


def test_what_is_cut_is_said() -> None:
    tokens = CLIP.encode("cat " * 75 + "in  the\nGarden")
    assert (tokens.kept, tokens.dropped) == (75, "in the garden")
    assert tokens.ids == (49406, *[2368] * 75, 49407)


def test_a_word_cut_in_two_is_said_from_the_cut_on() -> None:
    assert len(CLIP.encode("photorealisticness").ids) == 77
    pieces = CLIP.encode("photorealisticness").kept
    assert pieces > 1
    tokens = CLIP.encode("cat " * 74 + "photorealisticness and more")
    assert tokens.kept == 75
    assert "photorealisticness and more".endswith(tokens.dropped)
    assert tokens.dropped.endswith("ness and more")


def test_a_cut_inside_one_character_says_the_character() -> None:
    unusual = "\U00012000"  # cuneiform: four bytes, more than one token
    assert CLIP.encode(unusual).kept > 1
    assert CLIP.encode("cat " * 74 + unusual).dropped == unusual


@settings(deadline=None)
@given(st.text(max_size=400))
def test_kept_and_dropped_are_the_whole_text(text: str) -> None:
    tokens = CLIP.encode(text * 5)
    cleaned = clean(text * 5)
    assert len(tokens.ids) == 77
    assert cleaned.endswith(tokens.dropped)
    if tokens.dropped:
        assert tokens.kept == 75
    else:
        assert tokens.ids[tokens.kept + 1 :] == (49407,) * (76 - tokens.kept)


TRAINING = ["a red apple, 3d style", "cat face", "don't", "octopus 🐙"]
SMALL = CLIP.reduced(TRAINING, base_merges=300)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    names = {number: token for token, number in tokenizer.spec.vocabulary.ids.items()}
    tokens = tokenizer.encode(text)
    return [names[number] for number in tokens.ids[: tokens.kept + 2]]


@settings(deadline=None)
@given(st.lists(st.sampled_from([word for text in TRAINING for word in text.split()]), max_size=20).map(" ".join))
def test_reduced_splits_its_texts_as_before(text: str) -> None:
    assert pieces(SMALL, text) == pieces(CLIP, text)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_reduced_can_spell_anything(text: str) -> None:
    def spelled(tokenizer: Tokenizer) -> str:
        return "".join(pieces(tokenizer, text)).replace("</w>", " ")

    assert spelled(SMALL) == spelled(CLIP)


def test_reduced_is_small_and_ends_with_start_and_end() -> None:
    assert 512 + 300 + 2 < SMALL.vocab_size < 512 + 300 + 50
    assert (SMALL.start_id, SMALL.end_id, SMALL.pad_id) == (
        SMALL.vocab_size - 2,
        SMALL.vocab_size - 1,
        SMALL.vocab_size - 1,
    )
    assert SMALL.spec.vocabulary.merges[:300] == CLIP.spec.vocabulary.merges[:300]
    assert CLIP.reduced([], base_merges=10**6).spec.vocabulary == CLIP.spec.vocabulary
    assert SMALL.reduced(TRAINING, base_merges=300).spec == SMALL.spec


def test_reduced_keeps_tokens_found_in_prompts() -> None:
    padded = Tokenizer(replace(CLIP.spec, pad="!", added={"cat</w>": CLIP.spec.vocabulary.ids["cat</w>"]}))
    small = padded.reduced(["a dog"], base_merges=0)
    assert (small.pad_id, small.encode("!").ids[1]) == (0, 0)
    assert small.spec.added == {"cat</w>": small.spec.vocabulary.ids["cat</w>"]}


def test_reduced_refuses() -> None:
    with pytest.raises(OptionError, match="0 or more"):
        CLIP.reduced([], base_merges=-1)
    with pytest.raises(ConfigError, match="<style>"):
        Tokenizer(replace(CLIP.spec, added={"<style>": 49408})).reduced([], base_merges=1)


def test_a_special_token_without_an_id_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'\[PAD\]' is not in its vocabulary"):
        Tokenizer(replace(CLIP.spec, pad="[PAD]"))


def test_an_added_token_is_found_in_any_case_and_numbered_as_said() -> None:
    tokenizer = Tokenizer(replace(CLIP.spec, added={"<My-Style>": 49408}))
    assert tokenizer.encode("a cat in <my-STYLE>!").ids[1:7] == (320, 2368, 530, 49408, 256, 49407)
    assert tokenizer.vocab_size == 49409
    with pytest.raises(ConfigError, match="has the id 50000"):
        Tokenizer(replace(CLIP.spec, added={"<My-Style>": 50000}))


def test_frozen_and_equal_by_value() -> None:
    assert Tokenizer.bundled_clip() == CLIP
    with pytest.raises(FrozenInstanceError):
        CLIP.spec = TokenizerSpec(vocabulary=Vocabulary.from_merges([]))  # type: ignore[misc]


def test_it_works_from_several_threads_without_torch() -> None:
    script = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from sfumato.text import Tokenizer\n"
        "t = Tokenizer.bundled_clip()\n"
        "with ThreadPoolExecutor(8) as pool: rows = list(pool.map(t.encode, ['a red apple'] * 200))\n"
        "assert len(set(rows)) == 1; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- tokens that embeddings add ----------------------------------------------------------------------------------------


def test_an_added_token_is_the_next_id_and_several_are_a_run() -> None:
    more = CLIP.with_token("<my-Style>").with_token("easynegative", 3)
    assert more.vocab_size == 49412
    assert more.token_ids("a <MY-style> cat") == [320, 49408, 2368]
    assert more.token_ids("easynegative, cat") == [49409, 49410, 49411, 267, 2368]
    assert more.encode("easynegative").kept == 3
    assert more.decode([49408, 2368]) == "<my-style>cat"
    assert CLIP.vocab_size == 49408


def test_a_token_of_letters_is_a_whole_word_only() -> None:
    more = CLIP.with_token("zorp", 2)
    for text in ("zorps", "azorp", "zorp1", "zorpé"):
        assert more.token_ids(text) == CLIP.token_ids(text)
    assert more.token_ids("(zorp)") == [*CLIP.token_ids("("), 49408, 49409, *CLIP.token_ids(")")]
    # One in brackets can't be part of a word.
    assert CLIP.with_token("<zorp>").token_ids("a<zorp>b") == [*CLIP.token_ids("a"), 49408, *CLIP.token_ids("b")]


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_other_texts_are_split_as_before(text: str) -> None:
    if "zorp" not in clean(text):
        assert MORE.encode(text) == CLIP.encode(text)


MORE = CLIP.with_token("zorp", 4).with_token("<zorp-style>")


def test_a_run_is_there_whole_or_not_at_all() -> None:
    tokens = MORE.encode("cat " * 72 + "zorp fox")
    assert (tokens.kept, tokens.dropped) == (72, "zorp fox")
    tokens = MORE.encode("cat " * 71 + "zorp fox")
    assert (tokens.kept, tokens.dropped) == (75, "fox")
    assert len(tokens.ids) == 77


@pytest.mark.parametrize(
    ("token", "ids", "said"),
    [
        ("zorp", 1, "is there already"),
        ("ZORP", 1, "is there already"),
        ("zorp_2", 1, "is there already"),
        ("zorp_4", 1, "continuation of another"),
        ("<zorp-style>_1", 1, "continuation of another"),
        ("<|endoftext|>", 1, "is there already"),
        ("cat", 1, "is a word of this model's vocabulary"),
        ("Art", 2, "such as <art>"),
        ("*", 1, "is a word"),
        ("", 1, "can't be added"),
        (" ", 1, "can't be added"),
        ("new", 0, "can't be added"),
    ],
)
def test_tokens_that_are_there_or_are_words_are_refused(token: str, ids: int, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        MORE.with_token(token, ids)


def test_added_runs_come_back_from_a_folder(tmp_path: Path) -> None:
    MORE.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    for text in ("a zorp cat", "<zorp-style>", "a cat"):
        assert again.encode(text) == MORE.encode(text)
