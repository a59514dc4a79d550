"""What is true of the words of any prompt."""

from hypothesis import given
from hypothesis import strategies as st

from sfumato.text import clean
from sfumato.text.words import KnownWords, collect_words, words_in

TEXTS = st.text(max_size=60)
# Words that no rule of plurals, spelling or punctuation touches.
PLAIN = st.from_regex(r"[bdfgkmp][aeou][bdfgkmp]{1,5}", fullmatch=True)
KNOWN = KnownWords(frozenset(["cat", "t-shirt", "piñata", "cherry", "🚀"]))


@given(TEXTS)
def test_any_text_has_words_in_its_order_and_cleaned(text: str) -> None:
    rest = clean(text)
    for word in words_in(text):
        assert word
        assert not any(map(str.isspace, word))
        place = rest.find(word)
        assert place >= 0
        rest = rest[place + len(word) :]


@given(st.lists(TEXTS, max_size=5))
def test_a_model_knows_every_word_of_its_own_captions(captions: list[str]) -> None:
    known = KnownWords(frozenset(collect_words(captions)))
    assert all(known.note_on(caption) is None for caption in captions)


@given(TEXTS)
def test_unknown_words_are_the_text_s_own_each_once_and_named_in_one_line(text: str) -> None:
    unknown = KNOWN.unknown_in(text)
    assert [word for word in dict.fromkeys(words_in(text)) if word not in KNOWN] == unknown
    note = KNOWN.note_on(text)
    assert (note is None) == (not unknown)
    assert note is None or (len(note.splitlines()) == 1 and all(word in note for word in unknown))


@given(TEXTS, st.text(max_size=60))
def test_what_is_not_read_takes_words_away_and_adds_none(text: str, unread: str) -> None:
    every = KNOWN.unknown_in(text)
    read = KNOWN.unknown_in(text, unread=unread)
    assert every[: len(read)] == read


@given(st.lists(PLAIN, min_size=1, max_size=6, unique=True), st.data())
def test_case_order_numbers_and_punctuation_change_nothing(words: list[str], data: st.DataObject) -> None:
    known = KnownWords(frozenset(words))
    shown = [data.draw(st.sampled_from([word, word.upper(), word.title(), f"“{word}”", f"({word}:1.2),", f"7 {word}!"]))
             for word in data.draw(st.permutations(words))]  # fmt: skip
    assert known.unknown_in(" ".join(shown)) == []
    assert known.unknown_in("-".join(words)) == []
    assert known.unknown_in(" ".join(f"{word}'s" for word in words)) == []


@given(PLAIN, PLAIN)
def test_a_word_is_meant_by_no_other_when_it_is_known(word: str, other: str) -> None:
    known = KnownWords(frozenset([word]))
    assert word in known
    assert known.meant_by(other) in (word, None)
