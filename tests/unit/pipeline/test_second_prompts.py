"""Prompts in pairs: what each encoder reads, until which step."""

import pytest

from sfumato.errors import PromptError
from sfumato.pipeline.second_prompts import read_pair


def test_changes_of_both_are_in_one_schedule() -> None:
    pair = read_pair("a [red:green:2] fox", "[x:y:3][ z:4]", "a1111")
    assert pair.schedule(6) == [
        (2, (("a red fox", "x"),)),
        (3, (("a green fox", "x"),)),
        (4, (("a green fox", "y"),)),
        (6, (("a green fox", "y z"),)),
    ]
    assert not pair.is_steady
    assert read_pair("a fox", None, "a1111").schedule(4) == [(4, (("a fox", "a fox"),))]
    assert read_pair("(a fox:2)", "x++", "a1111").is_steady


def test_parts_go_together_or_not_at_all() -> None:
    assert read_pair("a AND b :0.5", "x AND y", "a1111").schedule(1) == [(1, (("a ", "x "), (" b", " y")))]
    assert read_pair("a AND b :0.5", "x", "a1111").schedule(1) == [(1, (("a ", "x"), (" b", "x")))]
    assert read_pair("a AND b", "x AND y", "a1111").notes == ()
    assert read_pair("a AND b :0.5", "x AND y :0.5", "a1111").notes == ()
    assert len(read_pair("a AND b", "x AND y :0.5", "a1111").notes) == 1
    for first, second in (("a", "x AND y"), ("a AND b", "x AND y AND z")):
        with pytest.raises(PromptError, match="prompt_2 has"):
            read_pair(first, second, "a1111")
    assert read_pair("a", "x AND y", "comfy").schedule(1) == [(1, (("a", "x AND y"),))]
