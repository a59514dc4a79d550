"""Scenes are the same by their number, show what their description says, and never show what is held out."""

import random
from pathlib import Path

import numpy as np
import pytest

from sfumato.errors import DataError, TrainingError
from sfumato.training.data.captions import Description
from sfumato.training.data.colours import OBJECT_COLOURS, background_of, object_colour, object_of
from sfumato.training.data.pack import ArtDataset, Record, read_dataset
from sfumato.training.data.scenes import SceneMaker, SceneMix, is_held_out

from .conftest import disc

SIZE = 48
ONLY = dict.fromkeys(
    ("plain", "coloured", "grounded", "two", "placed", "several", "grounds", "by_style", "strange"), 0.0
)
COLOURS = {
    "apple": (220, 40, 40),
    "rocket": (60, 110, 220),
    "leaf": (40, 160, 60),
    "sun": (250, 210, 40),
    "eggplant": (120, 40, 160),
}


def record(thing: str, style: str, split: str = "train") -> Record:
    return Record(thing=thing, style=style, code="0", source="s", licence="CC0-1.0", split=split, names=(thing,))


@pytest.fixture(scope="module")
def art() -> ArtDataset:
    """Five things in two styles; the sun in its second style is held out."""
    records = [
        record(t, s, "held_out" if (t, s) == ("sun", "3d") else "train") for t in COLOURS for s in ("flat", "3d")
    ]
    pixels = np.stack([disc(COLOURS[r.thing], SIZE, 0.46 if r.style == "flat" else 0.4) for r in records])
    return ArtDataset(pixels, tuple(records))


def maker(art: ArtDataset, **shares: float) -> SceneMaker:
    return SceneMaker(art, SceneMix(**(ONLY | shares)), seed=5)


def test_scene_is_the_same_whenever_its_number_is_asked_for(art):
    one, other = SceneMaker(art, seed=5), SceneMaker(art, seed=5)
    in_order = list(one.scenes(0, 40))
    for number in random.Random(0).sample(range(40), 40):
        again = other.scene(number)
        assert np.array_equal(again.pixels, in_order[number].pixels)
        assert again.description == in_order[number].description
        chance = other.chance(number)
        assert other.compose(chance).captions(3, chance) == captions_of(one, number, 3)
    assert any(
        not np.array_equal(a.pixels, b.pixels)
        for a, b in zip(in_order, SceneMaker(art, seed=6).scenes(0, 40), strict=True)
    )


def captions_of(maker: SceneMaker, number: int, count: int) -> tuple[str, ...]:
    chance = maker.chance(number)
    return maker.compose(chance).captions(count, chance)


def test_rare_styles_are_seen_when_the_style_is_drawn_first(art):
    rare = ArtDataset(art.pixels, tuple(record(r.thing, "3d" if r.thing == "apple" else "flat") for r in art.records))

    def share(by_style: float) -> float:
        scenes = maker(rare, plain=1, by_style=by_style).scenes(0, 600)
        return sum(scene.description.subjects[0].style == "3d" for scene in scenes) / 600

    assert share(0.0) == pytest.approx(1 / 5, abs=0.06)
    assert share(1.0) == pytest.approx(1 / 2, abs=0.06)


def test_a_share_of_captions_has_strange_words(art):
    plain, strange = maker(art, plain=1), maker(art, plain=1, strange=0.5)
    pairs = 0
    for number in range(200):
        chance, other = plain.chance(number), strange.chance(number)
        scene = strange.compose(other)
        assert np.array_equal(scene.pixels, plain.compose(chance).pixels)
        as_they_were, said = scene.captions(2, chance), strange.captions(scene, 2, other)
        pairs += sum(a != b for a, b in zip(as_they_were, said, strict=True))
    assert pairs / 400 == pytest.approx(0.5, abs=0.08)
    assert plain.captions(scene, 3, random.Random(4)) == scene.captions(3, random.Random(4))


def test_held_out_rows_are_never_used(art):
    used = {row for scene in SceneMaker(art).scenes(0, 400) for row in scene.rows}
    assert used == set(art.where(split="train", taught=True).tolist())
    only = SceneMaker(art, rows=(3,))
    assert {row for scene in only.scenes(0, 50) for row in scene.rows} == {3}


def test_held_out_colours_are_never_shown(art):
    never = {(t, c) for t in COLOURS for c in OBJECT_COLOURS if is_held_out(t, c)}
    assert never, "this vocabulary holds nothing out"
    shown = {
        (art.records[row].thing, subject.colour)
        for scene in maker(art, coloured=1, two=1, placed=1, grounds=0.5).scenes(0, 1500)
        for row, subject in zip(scene.rows, scene.description.subjects, strict=True)
        if subject.recoloured
    }
    assert not shown & never
    assert len(shown) > 15


def test_share_of_held_out_colours_is_a_tenth():
    pairs = [is_held_out(f"thing {i}", colour) for i in range(300) for colour in OBJECT_COLOURS]
    assert np.mean(pairs) == pytest.approx(0.1, abs=0.02)


def test_plain_scene_is_the_art_on_white(art):
    white = art.on_white()
    for scene in maker(art, plain=1).scenes(0, 20):
        assert np.abs(scene.pixels.astype(int) - white[scene.rows[0]]).max() <= 1
        (subject,) = scene.description.subjects
        assert scene.description == Description(subjects=(subject,))
        assert not subject.recoloured


def test_recoloured_scene_has_the_colour_it_tells(art):
    seen = set()
    for scene in maker(art, coloured=1).scenes(0, 80):
        (subject,) = scene.description.subjects
        assert object_colour(scene.pixels) == subject.colour
        seen |= {subject.colour} if subject.recoloured else set()
    assert len(seen) >= 6


def test_ground_is_what_is_told(art):
    seen = set()
    for scene in maker(art, grounded=1).scenes(0, 150):
        assert scene.description.ground is not None
        base = scene.description.ground.split()[-1].replace("grey", "gray")
        measured = background_of(scene.pixels)
        # Light red is where red and pink meet.
        assert measured == base or (scene.description.ground, measured) == ("light red", "pink")
        seen.add(scene.description.ground)
        assert base not in {subject.colour for subject in scene.description.subjects}
    assert len(seen) > 12


def halves(pixels: np.ndarray) -> tuple[float, float]:
    """Where the object's middle is, from 0 to 1: across, down."""
    y, x = np.nonzero(object_of(pixels))
    return float(x.mean() + 0.5) / pixels.shape[1], float(y.mean() + 0.5) / pixels.shape[0]


def test_placed_thing_is_where_and_as_big_as_is_told(art):
    seen = set()
    for scene in maker(art, placed=1).scenes(0, 120):
        across, down = halves(scene.pixels)
        (subject,), place = scene.description.subjects, scene.description.place
        assert place or subject.size, "a placed scene says where or how big"
        words = (place or "").split()
        for word, position in (("left", across), ("top", down)):
            assert (position < 0.4) == (word in words), (place, across, down)
        for word, position in (("right", across), ("bottom", down)):
            assert (position > 0.6) == (word in words), (place, across, down)
        share = object_of(scene.pixels).mean()
        if subject.size == "small":
            assert share < 0.15
        if subject.size == "big":
            assert share > 0.4
        seen |= {place, subject.size}
    assert len(seen) == 8 + 1 + 2


def test_two_things_stand_as_is_told_and_are_of_one_style(art):
    relations, side = set(), slice(SIZE // 2)
    for scene in maker(art, two=1).scenes(0, 150):
        first, second = scene.description.subjects
        assert first.style == second.style
        assert art.records[scene.rows[0]].thing != art.records[scene.rows[1]].thing
        relation = scene.description.relation
        regions = {
            "left of": (scene.pixels[:, side], scene.pixels[:, SIZE // 2 :]),
            "right of": (scene.pixels[:, SIZE // 2 :], scene.pixels[:, side]),
            "above": (scene.pixels[side], scene.pixels[SIZE // 2 :]),
            "below": (scene.pixels[SIZE // 2 :], scene.pixels[side]),
        }[relation]
        for region, subject in zip(regions, (first, second), strict=True):
            # Half the neighbour's rim may reach in: the chief colour is the subject's own.
            assert object_colour(np.ascontiguousarray(region)) == subject.colour
        relations.add(relation)
    assert len(relations) == 4


def test_of_two_things_each_stays_in_its_half():
    records = tuple(record(thing, "flat") for thing in COLOURS)
    margined = ArtDataset(np.stack([disc(COLOURS[r.thing], 256, 0.5 - 1 / 32) for r in records]), records)
    for scene in maker(margined, two=1).scenes(0, 60):
        stacked = scene.description.relation in ("above", "below")
        middle = scene.pixels[127:129] if stacked else scene.pixels[:, 127:129]
        assert middle.min() > 225  # but for what a smaller picture blurs


def pieces(pixels: np.ndarray) -> int:
    """How many parts of a picture on white stand apart, less their rims, which may touch."""
    padded, count = np.pad(pixels.min(-1) < 220, 1), 0
    left = padded[1:-1, 1:-1] & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    while left.any():
        spread = np.zeros_like(left)
        spread[np.unravel_index(left.argmax(), left.shape)] = True
        while True:
            padded = np.pad(spread, 1)
            wider = left & (
                padded[1:-1, 1:-1] | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
            )
            if np.array_equal(wider, spread):
                break
            spread = wider
        left, count = left & ~spread, count + 1
    return count


def test_several_are_as_many_as_are_told(art):
    large = np.stack([disc(COLOURS[each.thing], 3 * SIZE, 0.46) for each in art.records])
    counts = set()
    for scene in maker(ArtDataset(large, art.records), several=1).scenes(0, 60):
        (subject,) = scene.description.subjects
        assert pieces(scene.pixels) == subject.count
        counts.add(subject.count)
    assert counts == {2, 3, 4}


def test_what_is_not_counted_is_shown_once(art):
    stuffs = ArtDataset(art.pixels[:1], (record("broccoli", "flat"),))
    for scene in maker(stuffs, several=1).scenes(0, 10):
        assert scene.description.subjects[0].count == pieces(scene.pixels) == 1
        assert "broccolis" not in "".join(scene.captions(5, random.Random(0)))


def test_things_that_say_left_or_carry_writing_are_not_mirrored():
    half = disc((220, 40, 40), SIZE)
    half[:, SIZE // 2 :, 3] = 0
    for name, mirrored in (("left arrow", False), ("abc button", False), ("clock", False), ("bright leaf", True)):
        data = ArtDataset(half[None], (record(name, "flat"),))
        assert any(halves(scene.pixels)[0] > 0.5 for scene in maker(data, grounded=1).scenes(0, 30)) == mirrored, name


def test_two_things_need_no_second_style(art):
    lonely = ArtDataset(art.pixels[:2], art.records[:2])
    for scene in maker(lonely, two=1).scenes(0, 20):
        assert len({subject.style for subject in scene.description.subjects}) == 1


def test_things_are_equally_likely_however_many_styles_they_have(art):
    counts = dict.fromkeys(COLOURS, 0)
    for scene in maker(art, plain=1).scenes(0, 1000):
        counts[art.records[scene.rows[0]].thing] += 1
    assert min(counts.values()) > 150


def test_mix_is_what_is_made(art):
    kinds = [
        (len(s.description.subjects), bool(s.description.ground))
        for s in SceneMaker(art, SceneMix(**(ONLY | {"two": 3, "grounded": 1}))).scenes(0, 400)
    ]
    assert sum(n == 2 for n, _ in kinds) / 400 == pytest.approx(0.75, abs=0.07)
    assert all(ground == (n == 1) for n, ground in kinds)


def test_dataset_without_taught_art_is_said(toy_data: Path):
    data = read_dataset(toy_data)
    untaught = [i for i, r in enumerate(data.records) if not r.names]
    with pytest.raises(DataError, match="no taught art"):
        SceneMaker(ArtDataset(data.pixels[untaught], tuple(data.records[i] for i in untaught)))


@pytest.mark.parametrize("shares", [*({name: -1.0} for name in ONLY), {"grounds": 1.5, "plain": 1}, {}], ids=str)
def test_mix_that_can_not_be_drawn_is_said(shares):
    with pytest.raises(TrainingError, match="expected"):
        SceneMix(**(ONLY | shares))
