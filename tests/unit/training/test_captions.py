"""What a caption says is true of the picture, whatever the wording."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.training.data.captions import Description, Subject, caption, possible_words, with_article, without_colour
from sfumato.training.data.colours import NAMES, OBJECT_COLOURS

COLOURS = {*NAMES, "grey"}
PLACES = (
    "left",
    "right",
    "top",
    "bottom",
    "top left corner",
    "top right corner",
    "bottom left corner",
    "bottom right corner",
)
SAID = {
    "left of": r"\bleft of\b",
    "right of": r"\bright of\b|\bon the right of\b",
    "above": r" (?:above|over) ",
    "below": r" (?:below|under|beneath) ",
}  # fmt: skip

subjects = st.builds(
    Subject,
    names=st.sampled_from([("cat face", "kitten"), ("red apple", "apple"), ("owl",), ("scissors",), ("orange",)]),
    style=st.sampled_from(["flat", "3d", "noto"]),
    keywords=st.just(("animal", "red", "dark green thing")),
    colour=st.sampled_from([None, *OBJECT_COLOURS]),
    size=st.sampled_from([None, "small", "big"]),
)
seeds = st.integers(0, 2**32)


def recoloured(subject: Subject) -> Subject:
    return replace(subject, colour=subject.colour or "blue", recoloured=True)


def colours_in(text: str) -> set[str]:
    return {"gray" if word == "grey" else word for word in re.findall(r"\w+", text) if word in COLOURS}


@given(subjects.map(recoloured), seeds)
def test_recoloured_thing_is_called_by_its_colour_and_no_other(subject, seed):
    said = caption(Description(subjects=(subject,), ground="black"), random.Random(seed))
    colours = colours_in(said) - {"black", "white"}
    own = {"orange"} if subject.names == ("orange",) else set()  # the fruit has no other name
    assert subject.colour in colours
    assert colours <= {subject.colour} | own, said


@given(subjects, seeds)
def test_colour_of_its_own_never_contradicts_the_name(subject, seed):
    said = caption(Description(subjects=(subject,)), random.Random(seed)).split(",")[0]
    named = colours_in(said) - {"white"}
    in_name = {word for name in subject.names if name in said for word in colours_in(name)}
    assert named <= (in_name or {subject.colour}), said


@given(subjects, subjects, st.sampled_from(list(SAID)), seeds)
def test_relations_are_those_of_the_picture(first, second, relation, seed):
    first, second = (Subject(names=(n,), style="flat", size=s.size) for n, s in (("cat", first), ("pizza", second)))
    said = caption(Description(subjects=(first, second), relation=relation), random.Random(seed))
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    in_order = said.index("cat") < said.index("pizza")
    true = relation if in_order else opposite[relation]
    for other in SAID.keys() - {true}:
        assert not re.search(SAID[other], said), said
    if relation in ("above", "below"):
        assert re.search(SAID[true], said), f"one above the other is not what {said!r} makes people think of"


@given(subjects, st.sampled_from([None, "yellow", "light blue", "orange", "dark gray"]), seeds)
def test_ground_is_that_of_the_picture(subject, ground, seed):
    said = caption(Description(subjects=(subject,), ground=ground), random.Random(seed))
    if " background" in said:
        assert f"{ground or 'white'} background" in said
        assert not re.search(r"\ba [aeio]\w* background|\ban [^aeio]\w* background", said), said
    if ground:
        assert ground in said


@given(subjects, st.sampled_from(PLACES), seeds)
def test_place_is_always_said(subject, place, seed):
    said = caption(Description(subjects=(subject,), place=place), random.Random(seed))
    for word in place.replace("corner", "").split():
        assert word in said or {"top": "upper", "bottom": "lower"}.get(word, word) in said, said
    for word, opposite in (("left", "right"), ("top", "bottom")):
        for one, other in ((word, opposite), (opposite, word)):
            assert one not in place.split() or other not in said.split(), said


@given(subjects, seeds)
def test_style_and_size_are_the_subject_s(subject, seed):
    said = caption(Description(subjects=(subject,)), random.Random(seed))
    assert not any(style in said.split() for style in {"flat", "3d", "noto"} - {subject.style})
    sizes = {"small": {"small", "tiny", "little"}, "big": {"big", "large", "huge"}}
    words = set(re.findall(r"\w+", said))
    for size, wordings in sizes.items():
        assert bool(words & wordings) == (subject.size == size), said


@given(subjects, subjects, st.sampled_from([*SAID, None]), seeds)
def test_caption_is_one_clean_line(first, second, relation, seed):
    shown = (first, second) if relation else (first,)
    said = caption(Description(subjects=shown, relation=relation), random.Random(seed))
    assert said == said.strip().lower()
    assert "  " not in said
    assert "{" not in said
    assert not re.search(r"\b(\w+) \1\b", said), said
    assert not re.search(r"\ba (?=[aeio])|\ban (?=[^aeiou8])", said), said


@given(subjects, subjects, st.sampled_from([*SAID, None]), st.sampled_from([None, "yellow", "gray"]), seeds)
def test_the_plain_wording_says_the_same_in_the_commonest_words(first, second, relation, ground, seed):
    scene = Description(subjects=(first, second) if relation else (first,), relation=relation, ground=ground)
    chance, same_chance = random.Random(seed), random.Random(seed)
    said, plain = caption(scene, chance), caption(scene, same_chance, plain=True)
    assert chance.getstate() == same_chance.getstate(), "what comes after would not be the same"
    style = first.style
    assert (style in said.split(",")[-1] or style in re.findall(r"\w+", said)) == plain.endswith(f", {style} style")
    assert (f" on a {ground} background" in plain) == bool(ground)
    if not relation:
        name = without_colour(first.names[0]) if first.recoloured else first.names[0]
        assert re.match(rf"(?:an? )?(?:\w+ )*{name}(?: on a \w+ background)?(?:, {style} style)?\Z", plain), plain
        assert ("big " in plain, "small " in plain) == (first.size == "big", first.size == "small")
    for other in ("one", "single", "grey", "tiny", "little", "huge", "next", "beside", "please", "animal", "cute"):
        assert other not in plain.split(), plain
    for way in SAID.keys() if relation else ():
        if re.search(SAID[way], said):
            assert re.search(SAID[way], plain), (said, plain)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("apple", "an apple"),
        ("cat", "a cat"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("ufo", "a ufo"),
        ("ewe", "a ewe"),
        ("one-humped camel", "a one-humped camel"),
        ("3d rocket", "a 3d rocket"),
        ("8 ball", "an 8 ball"),
        ("x-ray", "an x-ray"),
        ("slice of pizza", "a slice of pizza"),
        ("face with sunglasses", "a face with sunglasses"),
        ("face in tears", "a face in tears"),
        ("face wearing sunglasses", "a face wearing sunglasses"),
        ("pair of scissors", "a pair of scissors"),
        ("scissors", "scissors"),
        ("red sunglasses", "red sunglasses"),
        ("half an avocado", "half an avocado"),
        ("several books", "several books"),
        ("two cherries", "two cherries"),
        ("brains", "brains"),
        ("men wrestling", "men wrestling"),
        ("small people holding hands", "small people holding hands"),
        ("people", "people"),
        ("group of people", "a group of people"),
        ("woman", "a woman"),
        ("deaf man", "a deaf man"),
        ("spectacles", "spectacles"),
        ("bus", "a bus"),
        ("octopus", "an octopus"),
        ("wine glass", "a wine glass"),
        ("hibiscus", "a hibiscus"),
        ("canvas", "a canvas"),
        ("lens", "a lens"),
        ("maracas", "maracas"),
        ("skis", "skis"),
        ("iris", "an iris"),
        ("father christmas", "a father christmas"),
        ("fleur-de-lis", "a fleur-de-lis"),
    ],
)
def test_articles(name, phrase):
    assert with_article(name) == phrase


@pytest.mark.parametrize(
    ("name", "left"),
    [("red apple", "apple"), ("orange", "orange"), ("blueberries", "blueberries"), ("white grey cat", "cat"), ("teal", "teal")],
)  # fmt: skip
def test_names_lose_their_colour_words(name, left):
    assert without_colour(name) == left


@pytest.mark.parametrize(("count", "words"), [(2, "two|2|a pair of|a couple of"), (3, "three|3|a few|some|several")])
def test_several_are_called_by_their_number_or_by_a_plural(count, words):
    subject = Subject(names=("Red apple", "broccoli", "slice of pizza"), style="3d", colour="red", count=count)
    said = {caption(Description(subjects=(subject,)), random.Random(n)) for n in range(300)}
    names = re.compile(r"\b(?:red apples|slices of pizza)\b")
    assert all(map(names.search, said)), "the name without a plural is not used"
    number = re.compile(rf"\b(?:{words})\b")
    assert {bool(number.search(text)) for text in said} == {True, False}
    others = re.compile(r"\b(?:four|4|an? (?:red|slices))\b" + ("|\\bthree\\b" if count == 2 else "|\\btwo\\b"))
    assert not any(map(others.search, said))


def test_several_recoloured_lose_their_own_colour():
    subject = Subject(names=("red apple",), style="3d", colour="blue", recoloured=True, count=2)
    for n in range(50):
        text = caption(Description(subjects=(subject,)), random.Random(n))
        assert "blue apples" in text or re.search(r"blue \w+ apples", text), text
        assert "red" not in text.split()


def test_words_are_known_before_a_caption_is_drawn():
    """Every token of every wording is one that the possible words have: the vocabulary is that of the grammar, not of what was drawn."""
    chance = random.Random(1)
    names, keywords, styles = (
        ("Red apple", "jack-o-lantern", "slice of pizza"),
        ("fruit", "to eat", "o'clock"),
        ("3d", "flat"),
    )
    possible = possible_words(names, keywords, styles)
    assert not any(" " in word or word != word.lower() for word in possible)
    seen: set[str] = set()
    for _ in range(6000):
        colour = chance.choice([None, *OBJECT_COLOURS])
        subjects = tuple(
            Subject(
                names=names, style=chance.choice(styles), keywords=keywords, colour=colour,
                recoloured=colour is not None and chance.random() < 0.5, size=chance.choice([None, "small", "big"]),
                count=chance.choice([1, 1, 2, 3, 4]),
            )
            for _ in range(chance.choice([1, 2]))
        )  # fmt: skip
        scene = Description(
            subjects=subjects, ground=chance.choice([None, "dark blue", "light gray", "orange"]),
            relation=chance.choice([*SAID]) if len(subjects) == 2 else None,  # type: ignore[arg-type]
            place=chance.choice([None, *PLACES]) if len(subjects) == 1 else None,  # type: ignore[arg-type]
        )  # fmt: skip
        seen.update(re.sub(r"([,.!])", r" \1 ", caption(scene, chance)).split())
    assert seen <= possible
    # Colours that no thing here takes as its own, and grounds that were not asked for, are all that may be missing.
    assert possible - seen <= COLOURS | {"light", "dark"}
