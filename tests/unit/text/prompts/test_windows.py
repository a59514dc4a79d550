"""Windows of 77: how a text of any length is cut, by each program's rule."""

import pytest

from sfumato.text.prompts import Emphasis, Reading, empty_window, read_windows
from sfumato.text.tokenizer import Tokenizer

CLIP = Tokenizer.bundled_clip()
A, COMMA = CLIP.token_ids("a")[0], CLIP.token_ids(",")[0]
LONG_WORD = "supercalifragilisticexpialidocious"


def read(text: str, emphasis: Emphasis = "a1111", tokenizer: Tokenizer = CLIP) -> Reading:
    reading = read_windows(text, emphasis, tokenizer)
    for window in reading.windows:
        assert len(window.ids) == len(window.weights) == len(window.spans) == 77
        assert window.ids[0] == tokenizer.start_id
        assert window.ids[window.kept + 1] == tokenizer.end_id
        assert set(window.ids[window.kept + 2 :]) <= {tokenizer.pad_id}
        assert {window.weights[0], *window.weights[window.kept + 1 :]} == {1.0}
    return reading


def kept(reading: Reading) -> list[int]:
    return [window.kept for window in reading.windows]


@pytest.mark.parametrize("emphasis", ["none", "a1111", "comfy", "compel"])
@pytest.mark.parametrize("text", ["", "a red apple, on a table", "a " * 75])
def test_a_text_that_fits_is_one_window_of_the_ids_that_the_tokenizer_gives(text: str, emphasis: Emphasis) -> None:
    (window,) = read(text, emphasis).windows
    assert window.ids == CLIP.encode(text).ids
    assert not window.weighted


@pytest.mark.parametrize(("words", "windows"), [(75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_without_commas_windows_are_filled(words: int, windows: list[int]) -> None:
    assert kept(read("a " * words)) == windows
    assert kept(read("a " * words, "compel")) == windows
    assert kept(read("a " * words, "comfy")) == windows


def test_what_follows_the_last_comma_moves_on_if_it_is_among_the_last_twenty() -> None:
    assert kept(read("a " * 70 + ", " + "a " * 10)) == [71, 10]
    assert kept(read("a " * 55 + ", " + "a " * 30)) == [56, 30]
    assert kept(read("a " * 54 + ", " + "a " * 30)) == [75, 10]
    # A comma in the last place ends the window; one that finds no place goes on.
    assert kept(read("a " * 74 + ", a")) == [75, 1]
    assert kept(read("a " * 75 + ", a")) == [75, 2]
    # Commas of windows before count no more.
    assert kept(read("a " * 70 + ", " + "a " * 80)) == [71, 75, 5]


def test_compel_looks_for_the_end_of_a_sentence_then_of_a_phrase_then_of_a_word() -> None:
    assert kept(read("a " * 20 + ". " + "a " * 10 + ", " + "a " * 60, "compel")) == [21, 71]
    assert kept(read("a " * 30 + "; " + "a " * 60, "compel")) == [31, 60]
    torn = "unhyphenatably"
    pieces = len(CLIP.token_ids(torn))
    assert kept(read("a " * 74 + torn, "compel")) == [74, pieces]
    endless = "ab" * 200
    assert kept(read(endless, "compel"))[0] == 75


def test_break_ends_a_window_wherever_it_is() -> None:
    assert kept(read("a a BREAK a")) == [2, 1]
    assert kept(read("BREAK a")) == [0, 1]
    assert kept(read("a BREAK")) == [1]
    assert kept(read("a BREAK BREAK a")) == [1, 0, 1]
    assert kept(read("a BREAK a", "comfy")) == [3]


def test_weights_and_spans_lie_beside_their_tokens() -> None:
    reading = read("a (red apple:1.5), b")
    (window,) = reading.windows
    assert window.weights[1:6] == (1.0, 1.5, 1.5, 1.0, 1.0)
    assert window.spans[:7] == (-1, 0, 1, 1, 2, 2, -1)
    assert window.weighted


def test_comfy_tears_no_word_of_fewer_than_eight_tokens() -> None:
    short = "unhyphenatably"
    assert 1 < len(CLIP.token_ids(short)) < 8 <= len(CLIP.token_ids(LONG_WORD * 2))
    assert kept(read("a " * 74 + short, "comfy")) == [74, len(CLIP.token_ids(short))]
    long = LONG_WORD * 2
    assert kept(read("a " * 74 + long, "comfy")) == [75, len(CLIP.token_ids(long)) - 1]


def test_an_embedding_is_not_torn_apart() -> None:
    tokenizer = CLIP.with_token("<style>", ids=4)
    for emphasis in ("a1111", "comfy", "compel"):
        reading = read("a " * 73 + "<style> a", emphasis, tokenizer)
        assert kept(reading) == [73, 5]
        assert len({*reading.windows[1].ids[1:5]}) == 4


def test_an_embedding_longer_than_a_window_is_dropped_and_said() -> None:
    reading = read("a <style> b", "a1111", CLIP.with_token("<style>", ids=76))
    assert kept(reading) == [2]
    assert "76 tokens is dropped" in reading.notes[0]


def test_comfy_calls_embeddings_by_a_prefix() -> None:
    tokenizer = CLIP.with_token("mystyle", ids=2)
    assert kept(read("a embedding:mystyle, b", "comfy", tokenizer)) == [5]
    reading = read("a (embedding:other:1.2) b", "comfy", tokenizer)
    assert kept(reading) == [2]
    assert "embedding:other is dropped" in reading.notes[0]


def test_without_emphasis_what_finds_no_place_is_said() -> None:
    reading = read("a " * 75 + "zebra", "none")
    assert kept(reading) == [75]
    assert "'zebra'" in reading.notes[0]


def test_the_empty_window_is_that_of_an_empty_text() -> None:
    assert empty_window(CLIP) == read("").windows[0]
