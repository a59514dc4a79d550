"""Names in the plural, and names that have none."""

import pytest

from sfumato.training.data.plurals import plural_of


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("penguin", "penguins"),
        ("cat face", "cat faces"),
        ("slice of pizza", "slices of pizza"),
        ("cat with tears of joy", "cats with tears of joy"),
        ("face savoring food", "faces savoring food"),
        ("fox", "foxes"),
        ("glass of milk", "glasses of milk"),
        ("octopus", "octopuses"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("potato", "potatoes"),
        ("flamingo", "flamingos"),
        ("fish", "fish"),
        ("jellyfish", "jellyfish"),
        ("superhero", "superheroes"),
        ("sheaf of rice", "sheaves of rice"),
        ("tropical fish", "tropical fish"),
        ("mouse", "mice"),
        ("kitchen knife", "kitchen knives"),
        ("snowman", "snowmen"),
        ("wing", "wings"),
        ("jack-o-lantern", "jack-o-lanterns"),
    ],
)
def test_names_are_put_in_the_plural(name: str, plural: str) -> None:
    assert plural_of(name) == plural


@pytest.mark.parametrize(
    "name",
    [
        "", "broccoli", "scissors", "cherries", "two hearts", "no bicycles", "man running", "bowling", "keycap 3", "letter a",
        "red triangle pointed down", "dashing away", "foggy", "ice hockey", "eight-thirty", "japanese open for business button", "sun", "french fries", "women with bunny ears",
    ],
)  # fmt: skip
def test_what_is_not_counted_has_no_plural(name: str) -> None:
    assert plural_of(name) is None


def test_a_plural_has_no_plural() -> None:
    for name in ("penguin", "slice of pizza", "fox", "cherry", "potato", "kitchen knife"):
        assert plural_of(str(plural_of(name))) is None
