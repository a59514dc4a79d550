"""Emphasis in the words of ComfyUI and of compel."""

import pytest

from sfumato.errors import OptionError
from sfumato.text.prompts import Span, check_emphasis, read_spans

COMFY = {
    "a (b) c": [("a ", 1.0), ("b", 1.1), (" c", 1.0)],
    # A written weight holds as it is.
    "((a:1.3))": [("a", 1.3)],
    "((a:1.3) b)": [("a", 1.3), (" b", 1.1)],
    "((b):1.2)": [("b", 1.32)],
    "[a] a|b BREAK": [("[a] a|b BREAK", 1.0)],
    r"\(a\) (b\):2)": [("(a) ", 1.0), ("b)", 2.0)],
    "(a:1:2)": [("a:1", 2.0)],
    "(a:b)": [("a:b", 1.1)],
    "(:1.2)": [(":1.2", 1.1)],
    "(a:inf)": [("a:inf", 1.1)],
    "()": [],
    # Not closed: text to the end. Closing nothing: text, and so is the next one that opens.
    "(a:1.2": [("(a:1.2", 1.0)],
    "a) (b) (c)": [("a) (b) (c)", 1.0)],
    "a) (b ((c))": [("a) (b ", 1.0), ("c", 1.21)],
}

COMPEL = {
    "fire flames++": [("fire", 1.0), ("flames", 1.1**2)],
    "fire flames--": [("fire", 1.0), ("flames", 0.9**2)],
    "(flames)0.5": [("flames", 0.5)],
    '"flames"+': [("flames", 1.1)],
    "(flowers)--- flames+++": [("flowers", 0.9**3), ("flames", 1.1**3)],
    "(pretty flowers)+, the flames": [("pretty flowers", 1.1), (", the flames", 1.0)],
    "fire (flames (trees)1.5)2.0": [("fire", 1.0), ("flames", 2.0), ("trees", 3.0)],
    "cat hot-dog eating": [("cat hot-dog eating", 1.0)],
    "cat-, dog": [("cat", 0.9), (", dog", 1.0)],
    "a badly formed +test prompt": [("a badly formed +test prompt", 1.0)],
    "a badly (formed test": [("a badly (formed test", 1.0)],
    'say "hi" now': [('say "hi" now', 1.0)],
    r"a\+ \(b\)+": [("a+ (b)+", 1.0)],
    "": [],
}


@pytest.mark.parametrize("text", COMFY)
def test_comfy(text: str) -> None:
    agree(read_spans(text, "comfy"), COMFY[text])


@pytest.mark.parametrize("text", COMPEL)
def test_compel(text: str) -> None:
    agree(read_spans(text, "compel"), COMPEL[text], strip=True)


def agree(spans: object, expected: list[tuple[str, float]], *, strip: bool = False) -> None:
    assert isinstance(spans, tuple)
    assert [span.text.strip() if strip else span.text for span in spans] == [text for text, _ in expected]
    assert [span.weight for span in spans] == pytest.approx([weight for _, weight in expected])


def test_without_emphasis_a_text_is_itself() -> None:
    assert read_spans("(a:1.2) [b]", "none") == (Span("(a:1.2) [b]"),)


def test_an_unknown_mode_is_refused() -> None:
    assert check_emphasis("comfy") == "comfy"
    with pytest.raises(OptionError, match="a1111_no_norm, comfy, compel, not 'A1111'"):
        check_emphasis("A1111")
