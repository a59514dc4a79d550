import pytest

from sfumato.text.tokenizer import Tokenizer
from sfumato.text.words import KnownWords, collect_words, words_in

KNOWN = KnownWords(
    frozenset(
        words_in(
            "a alien apple big blueberries box cat cherry chips dog doe elephant glass horse hyena in jack-o'-lantern mountain "
            "mouse new octopus on penguin piñata potato rocket ship style t-shirt the toy 3d 🚀"
        )
    )
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("2 T-shirts & a 3D cat!", ["t-shirts", "a", "3d", "cat"]),
        ("a   red_apple,(dog:1.3) x2", ["a", "red", "apple", "dog", "x2"]),
        ("'quoted' the dogs' cat’s don't O’Clock", ["quoted", "the", "dogs", "cat's", "don't", "o'clock"]),
        ("jack-o'-lantern rock-'n'-roll x--y a - b -c", ["jack-o'-lantern", "rock-'n'-roll", "x", "y", "a", "b", "c"]),
        ("1.5 × 2024, 50% ½ Ⅳ 1️⃣", []),
        ("naïve Cafe\u0301 STRASSE Ω", ["naïve", "café", "strasse", "ω"]),
        ("हिन्दी می‌خواهم 一只猫", ["हिन्दी", "می‌خواهم", "一只猫"]),
        ("🚀 to the ❤️ 👩🏽‍🚀", ["🚀", "to", "the", "❤️", "👩🏽‍🚀"]),
        ("a^b `c` ~ + = → €5 <|endoftext|>", ["a", "b", "c", "endoftext"]),
        ("left\u200eright\u00adcat", ["left", "right", "cat"]),
        ("fish &amp; chips", ["fish", "chips"]),
    ],
)
def test_words_are_split_as_people_see_them(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_the_words_of_captions_are_collected_from_templates_too() -> None:
    texts = ["{} to the left of {}", "A Cat", "the T-shirt, 3d style", "cat 100"]
    assert collect_words(texts) == ("3d", "a", "cat", "left", "of", "style", "t-shirt", "the", "to")


@pytest.mark.parametrize(
    "word",
    [
        *("cat", "cat's", "t-shirt", "shirt", "cat-dog", "dog-toy's", "big-2-cat", "12-cat", "jack"),
        "lantern",
    ],
)
def test_what_is_joined_from_known_words_is_known(word: str) -> None:
    assert word in KNOWN
    assert KNOWN.note_on(word) is None


@pytest.mark.parametrize(
    "word",
    [
        "zorp",
        "cats",
        "cherries",
        "t-shirts",
        "as",
        "ins",
        "ons",
        "news",
        "does",
        "cates",
        "boxs",
        "chip",
        "catty",
        "cat-zorp",
        "🐈",
        "blueberry",
    ],
)
def test_what_only_looks_like_a_known_word_is_not(word: str) -> None:
    assert KNOWN.unknown_in(word) == [word]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("elefant", "elephant"),
        ("rokcet", "rocket"),
        ("pengiun", "penguin"),
        ("octopuss", "octopus"),
        ("montain", "mountain"),
        ("pinata", "piñata"),
        ("tshirt", "t-shirt"),
        ("blueberry", "blueberries"),
        ("chip", "chips"),
        *(("cats", "cat"), ("cherries", "cherry"), ("boxes", "box"), ("potatoes", "potato"), ("t-shirts", "t-shirt")),
        ("fountain", None),  # a word, though near to "mountain"
        ("house", None),
        ("friend", None),
        ("catt", None),  # near to words too short to be sure
        ("zorp", None),
        ("quux", None),
    ],
)
def test_what_was_meant_is_said_where_it_is_certain(word: str, meant: str | None) -> None:
    assert KNOWN.meant_by(word) == meant


def test_a_slip_that_may_be_either_of_two_words_is_neither() -> None:
    assert KnownWords(frozenset(["strang", "string"])).meant_by("strzng") is None
    assert KnownWords(frozenset(["string"])).meant_by("strzng") == "string"


def test_a_fifth_of_a_long_word_is_no_slip() -> None:
    known = KnownWords(frozenset(["attraction", "helicopter"]))
    assert known.meant_by("artstation") is None
    assert known.meant_by("helicoptre") == "helicopter"


def test_the_note_names_each_unknown_word_once_in_the_prompt_s_order() -> None:
    assert KNOWN.note_on("2 big Cat's on the 3D T-shirt's box!") is None
    assert KNOWN.note_on("two cats") == "unknown to this model: two, cats (cat?)"
    assert KNOWN.note_on("a Zorp, quux (zorp) in elefant style") == (
        "unknown to this model: zorp, quux, elefant (elephant?)"
    )


def test_words_that_found_no_room_are_left_to_the_note_on_length() -> None:
    prompt = "A  zorp cat " + "quux " * 80
    tokens = Tokenizer.bundled_clip().encode(prompt)
    assert KNOWN.unknown_in(prompt, unread=tokens.dropped) == ["zorp", "quux"]
    assert KNOWN.unknown_in(prompt, unread="quux " * 79 + "quux") == ["zorp"]
    cut_within = "a zorp cat " + "Donaudampfschifffahrt" * 20
    dropped = Tokenizer.bundled_clip().encode(cut_within).dropped
    assert dropped
    assert KNOWN.unknown_in(cut_within, unread=dropped)[1] == "donaudampfschifffahrt" * 20
