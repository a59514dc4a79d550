"""Styles as the web UI keeps them."""

from pathlib import Path

import pytest

from sfumato.errors import CorruptFileError, MissingFileError, UnknownNameError
from sfumato.text.prompts import Style, apply_styles, parse_styles, read_styles

TABLE = """name,prompt,negative_prompt
Ink,"{prompt}, ink drawing","photo, 3d"
Night, at night,
Ink and more,"before {prompt} after",x
"""


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text("\ufeff" + TABLE, encoding="utf-8")
    assert read_styles(path)["Ink"] == Style(name="Ink", prompt="{prompt}, ink drawing", negative="photo, 3d")
    assert list(read_styles(path)) == ["Ink", "Night", "Ink and more"]
    assert parse_styles("name,text\nOld,words\n")["Old"].prompt == "words"


def test_styles_go_around_a_prompt_one_after_the_other() -> None:
    styles = parse_styles(TABLE)
    assert apply_styles("a cat", "blur", ["Ink", "Night"], styles) == (
        "a cat, ink drawing, at night",
        "blur, photo, 3d",
    )
    assert apply_styles("a cat", "", ["Ink and more"], styles) == ("before a cat after", "x")
    assert apply_styles("", "", ["Night"], styles) == ("at night", "")
    assert apply_styles("a cat", "", [], styles) == ("a cat", "")


def test_what_is_no_style_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean Night"):
        apply_styles("a", "", ["Nigt"], parse_styles(TABLE))
    with pytest.raises(CorruptFileError, match="expected name,prompt,negative_prompt"):
        parse_styles("a,b\n1,2\n")
    with pytest.raises(MissingFileError):
        read_styles(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"name,prompt\n\xff\xfe,\x80\n")
    with pytest.raises(CorruptFileError, match="UTF-8"):
        read_styles(tmp_path / "bytes.csv")
