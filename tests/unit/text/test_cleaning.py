import pytest

from sfumato.text import clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("  A  Red\n\tApple \u3000 ", "a red apple"),
        ("“don’t”", '"don\'t"'),
        ("cafÃ©", "café"),
        ("cafe\u0301", "café"),
        ("&amp;amp; &lt;b&gt; &eacute;", "& <b> é"),
        ("a\x00b\x07c", "abc"),
        ("\ufeffcat", "cat"),
        ("ﬂower", "flower"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected
