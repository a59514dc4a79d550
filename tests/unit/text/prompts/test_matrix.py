import pytest

from sfumato.errors import PromptError
from sfumato.text.prompts import prompt_matrix


def test_every_combination_in_the_web_ui_s_order() -> None:
    matrix = prompt_matrix("a cat| in a hat |at night,")
    assert (matrix.base, matrix.parts) == ("a cat", ("in a hat", "at night"))
    assert matrix.prompts == ("a cat", "a cat, in a hat", "a cat, at night", "a cat, in a hat, at night")


@pytest.mark.parametrize(
    ("text", "base", "parts"),
    [
        ("a cat", "a cat", ()),
        ("", "", ()),
        ("|a|", "", ("a",)),
        ("a [cat|dog]|{x|y} z", "a [cat|dog]", ("{x|y} z",)),
        ("a [cat|dog", "a [cat", ("dog",)),
        ("a [x|[y|z]|b]|c", "a [x|[y|z]|b]", ("c",)),
        (r"a \[cat|dog]", r"a \[cat", ("dog]",)),
    ],
)
def test_what_is_a_part(text: str, base: str, parts: tuple[str, ...]) -> None:
    matrix = prompt_matrix(text)
    assert (matrix.base, matrix.parts) == (base, parts)
    assert len(matrix.prompts) == 2 ** len(parts)


def test_too_many_parts() -> None:
    with pytest.raises(PromptError, match="13 optional parts, which make 8,192 pictures; 12 parts are the most"):
        prompt_matrix("a" + "|b" * 13)
