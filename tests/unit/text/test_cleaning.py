import html

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.text(st.characters(codec="ascii"), max_size=60) | st.text("ab \t\r\n\x0b&;<%'~\x1b\x7f", max_size=20))
def test_ascii_is_cleaned_as_by_ftfy(text: str) -> None:
    """Most of it is not given to ftfy, which would leave it as it is."""
    assert clean(text) == " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
