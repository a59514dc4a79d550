import pytest

from sfumato.cli.parsing import parse_grid, parse_size
from sfumato.errors import OptionError, SizeError


@pytest.mark.parametrize("text", ["512x768", "512X768", " 512 × 768 "])
def test_size(text: str) -> None:
    assert parse_size(text) == (512, 768)


@pytest.mark.parametrize(
    "text", ["", "512", "512x", "x512", "512x768x3", "-8x8", "8.5x8", "٥x٥", "1234567x8", "8x8\nx"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(SizeError, match="expected WIDTHxHEIGHT"):
        parse_size(text)


def test_grid() -> None:
    assert parse_grid("2x3") == (2, 3)
    for text in ("0x3", "3x0", "six"):
        with pytest.raises(OptionError, match="expected ROWSxCOLUMNS"):
            parse_grid(text)
