"""Colours are named as people name them, and what recolouring makes is called by its colour."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given

from sfumato.training.data import colours
from sfumato.training.data.colours import (
    NAMES,
    OBJECT_COLOURS,
    TYPICAL,
    background_of,
    dominant_colour,
    from_oklab,
    name_pixels,
    object_colour,
    object_of,
    oklab,
    paint,
    recolour,
)

from .conftest import disc

# What a person calls these, by their CSS values.
KNOWN = {
    (255, 0, 0): "red",
    (178, 34, 34): "red",
    (255, 140, 0): "orange",
    (255, 215, 0): "yellow",
    (255, 255, 0): "yellow",
    (0, 128, 0): "green",
    (50, 205, 50): "green",
    (0, 128, 128): "teal",
    (64, 224, 208): "teal",
    (0, 0, 255): "blue",
    (65, 105, 225): "blue",
    (128, 0, 128): "purple",
    (138, 43, 226): "purple",
    (255, 192, 203): "pink",
    (255, 105, 180): "pink",
    (139, 69, 19): "brown",
    (101, 67, 33): "brown",
    (0, 0, 0): "black",
    (20, 20, 25): "black",
    (128, 128, 128): "gray",
    (192, 192, 192): "gray",
    (255, 255, 255): "white",
    (245, 245, 245): "white",
}


@pytest.mark.parametrize(("rgb", "name"), KNOWN.items(), ids=str)
def test_known_colours_have_their_names(rgb, name):
    assert NAMES[name_pixels(np.array(rgb, np.uint8))] == name


@pytest.mark.parametrize("name", TYPICAL)
def test_typical_colour_of_a_name_is_called_by_it(name):
    assert NAMES[name_pixels(np.array(paint(*TYPICAL[name]), np.uint8))] == name


@given(hnp.arrays(np.uint8, (8, 3)))
def test_oklab_and_back(rgb):
    assert np.abs(from_oklab(oklab(rgb)).astype(int) - rgb).max() <= 1


def test_oklab_of_white_black_and_red():
    # The values of the source's own table, to its three digits.
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    np.testing.assert_allclose(oklab(rgb), [[1, 0, 0], [0, 0, 0], [0.628, 0.225, 0.126]], atol=1e-3)


def test_colour_leads_with_half_of_the_coloured_pixels():
    red, blue, green, white = ([rgb] for rgb in ((220, 30, 30), (50, 90, 220), (40, 160, 60), (255, 255, 255)))

    def chief(*parts: list) -> str | None:
        return colours.chief_colour(np.concatenate(parts).astype(np.uint8))

    assert chief(red * 6, blue * 4) == "red"
    assert chief(red * 4, blue * 3, green * 3) is None
    assert chief(white * 9, blue * 1) == "white"  # few are coloured
    assert chief(white * 7, blue * 3) == "blue"
    assert colours.chief_colour(np.empty((0, 3), np.uint8)) is None


def test_transparent_art_has_no_colour():
    art = disc((220, 40, 40))
    art[..., 3] = 0
    assert dominant_colour(art) is None
    assert recolour(art, "blue") is None


@pytest.mark.parametrize("colour", OBJECT_COLOURS)
@pytest.mark.parametrize("own", [(220, 40, 40), (60, 110, 220), (235, 235, 235)], ids=["red", "blue", "white"])
def test_recoloured_art_has_its_colour_and_keeps_shape_and_shading(own, colour):
    art = disc(own, 32)
    turned = recolour(art, colour)
    assert turned is not None
    assert dominant_colour(turned) == colour
    assert np.array_equal(turned[..., 3], art[..., 3])
    visible = art[..., 3] > 0
    assert np.array_equal(turned[~visible], art[~visible])
    # Lighter above and darker below, as before.
    light = oklab(turned[..., :3])[..., 0]
    rows = [light[y][visible[y]].mean() for y in range(32) if visible[y].any()]
    assert rows[0] > rows[-1]
    assert np.corrcoef(light[visible], oklab(art[..., :3])[visible][..., 0])[0, 1] > 0.95


def test_recolouring_turns_the_chief_hue_and_leaves_the_others():
    art = disc((220, 40, 40), 32)
    art[4:8, 14:18, :3] = (40, 160, 60)  # a leaf
    art[20:24, 14:18, :3] = (15, 15, 15)
    turned = recolour(art, "blue")
    assert turned is not None
    assert np.array_equal(turned[4:8, 14:18], art[4:8, 14:18])
    assert np.array_equal(turned[20:24, 14:18], art[20:24, 14:18])


def test_black_art_is_not_recoloured():
    assert recolour(disc((15, 15, 15)), "red") is None


def test_what_would_not_be_called_by_the_colour_is_refused():
    art = disc((40, 160, 60), 32)
    art[:, :16, :3] = (240, 90, 200)  # half of it stays pink whatever the green becomes
    turned = [recolour(art, colour) for colour in OBJECT_COLOURS]
    assert any(t is None for t in turned)
    for colour, result in zip(OBJECT_COLOURS, turned, strict=True):
        assert result is None or dominant_colour(result) == colour


@pytest.mark.parametrize("ground", ["white", "yellow", "blue", "black", "gray"])
@pytest.mark.parametrize("thing", ["red", "green", "purple"])
def test_ground_and_object_of_a_picture_are_measured(ground, thing):
    art = disc(paint(*TYPICAL[thing]), 32, 0.3)
    inside = art[..., 3] > 0
    picture = np.where(inside[..., None], art[..., :3], np.array(paint(*TYPICAL[ground]), np.uint8)).astype(np.uint8)
    assert background_of(picture) == ground
    assert object_colour(picture) == thing
    assert np.array_equal(object_of(picture), inside)


def test_picture_without_an_object_has_no_object_colour():
    picture = np.full((8, 8, 3), 200, np.uint8)
    assert not object_of(picture).any()
    assert object_colour(picture) is None
