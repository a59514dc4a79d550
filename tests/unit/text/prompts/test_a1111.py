"""The web UI's grammar, held to what its own doc tests and comments say of it (`prompt_parser.py`, versions 1.6 to 1.10)."""

import pytest

from sfumato.text.prompts import BREAK, NetworkCall, Part, Span, expand_wildcards, parse_prompt, read_spans
from sfumato.text.prompts.networks import take_networks
from sfumato.text.prompts.reading import split_weight
from sfumato.text.prompts.schedule import DEEPEST, parse_pieces

TURNS = ["a", "(b:1.1)"] * 5

SCHEDULES = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [{b|d{:.5] c": [(5, "a  c"), (10, "a {b|d{ c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[a|(b:1.1)]": [(step, text) for step, text in enumerate(TURNS, start=1)],
    "[fe|]male": [(step, "male" if step % 2 == 0 else "female") for step in range(1, 11)],
    "[fe|||]male": [(step, "female" if step % 4 == 1 else "male") for step in range(1, 11)],
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules_are_the_web_ui_s(text: str) -> None:
    assert Part(parse_pieces(text)).schedule(10) == SCHEDULES[text]


def test_the_landscape_that_the_web_ui_explains_itself_by() -> None:
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[ in background:0.25] [shoddy:masterful:0.5]"
    )
    assert Part(parse_pieces(text)).schedule(100) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


@pytest.mark.parametrize(("text", "schedule"), [("a [b:.5] c", [(10, "a b c")]), ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")])])  # fmt: skip
def test_in_a_second_pass_shares_go_from_one_to_two(text: str, schedule: list[tuple[int, str]]) -> None:
    assert Part(parse_pieces(text)).schedule(10, earlier=10) == schedule


# What the web UI's own parser gave for these, at 10 steps; it was run once, by hand.
MORE_SCHEDULES = {
    "[a:b]": [(10, "[a:b]")],
    "x [y [a:b]:3]": [(10, "x [y [a:b]:3]")],
    "[a:b:c:3]": [(10, "[a:b:c:3]")],
    "(a [b:c:3] d": [(3, "(a b d"), (10, "(a c d")],
    "[a (b:c:3]": [(10, "[a (b:c:3]")],
    "[a::3]": [(3, "a"), (10, "")],
    "[:a:3]": [(3, ""), (10, "a")],
    "[3]": [(10, "[3]")],
    "[a:3:4]": [(4, "a"), (10, "3")],
    "[a:-3]": [(10, "a")],
    "[a:b:0]": [(10, "b")],
    "[a:b:1.]": [(10, "a")],
    "[a:b:99]": [(10, "a")],
    "[a:1e1]": [(10, "")],
    "[(a:b:c):3]": [(10, "[(a:b:c):3]")],
    "[a:b:3 4]": [(10, "[a:b:3 4]")],
    "(a]b[c:d:3]": [(3, "(a]bc"), (10, "(a]bd")],
    r"[a\:b:3]": [(3, ""), (10, r"a\:b")],
    r"[a\]:3]": [(3, ""), (10, r"a\]")],
    "[a:b\n:3]": [(3, "a"), (10, "b\n")],
    "[a [b|c] d:e:0.2]": [(1, "a b d"), (2, "a c d"), *((step, "e") for step in range(3, 11))],
    "[a|[b|c]]": [(step, "a" if step % 2 else "c") for step in range(1, 11)],
}


@pytest.mark.parametrize("text", MORE_SCHEDULES)
def test_more_schedules(text: str) -> None:
    assert Part(parse_pieces(text)).schedule(10) == MORE_SCHEDULES[text]


def test_a_bar_outside_an_alternation_is_text_and_leaves_the_rest_of_the_prompt_alone() -> None:
    assert Part(parse_pieces("a|b [c:d:3]")).schedule(10) == [(3, "a|b c"), (10, "a|b d")]
    assert Part(parse_pieces("[(a|b):3]")).schedule(10) == [(3, ""), (10, "(a|b)")]
    assert parse_pieces("a\\") == ("a\\",)


def test_a_change_too_deep_in_brackets_is_text() -> None:
    assert len(parse_pieces("(" * (DEEPEST - 1) + "[a:b:3]" + ")" * (DEEPEST - 1))) == 3
    deep = "(" * DEEPEST + "[a:b:3]" + ")" * DEEPEST
    assert parse_pieces(deep) == (deep,)


SPANS = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.5730000000000004),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641000000000006),
        (".", 1.1),
    ],
    "": [],
    # Not of the doc tests, but by the same rules.
    "(a:1.2": [("a:1.2", 1.1)],
    "a:1.2)": [("a:1.2)", 1.0)],
    "(a : -0.5 )": [("a ", -0.5)],
    "(a:1.2.3)": [("a:1.2.3", 1.1)],
    "(a:.)": [("a:.", 1.1)],
    "(a [b) c]": [("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)],
    r"a\b\\c": [("ab\\c", 1.0)],
    r"(a\):1.2)": [("a)", 1.2)],
    "(a:0)": [("a", 0.0)],
    "1(:3)2": [("12", 1.0)],
    "((a):1.5)": [("a", 1.65)],
}


@pytest.mark.parametrize("text", SPANS)
def test_emphasis_is_the_web_ui_s(text: str) -> None:
    spans = read_spans(text, "a1111")
    assert [span.text for span in spans if isinstance(span, Span)] == [text for text, _ in SPANS[text]]
    weights = [span.weight for span in spans if isinstance(span, Span)]
    assert weights == pytest.approx([weight for _, weight in SPANS[text]], rel=1e-14)


def test_break_ends_a_window_and_takes_the_spaces_around_it() -> None:
    assert read_spans("a  BREAK\nb", "a1111") == (Span("a"), BREAK, Span("b"))
    assert read_spans("BREAK BREAKa, unBREAKable", "a1111") == (BREAK, Span("BREAKa, unBREAKable"))
    assert read_spans("(a BREAK b)", "a1111") == (Span("a", 1.1), BREAK, Span("b", 1.1))
    assert read_spans("a BREAK BREAK b BREAK", "a1111") == (Span("a"), BREAK, BREAK, Span("b"), BREAK)


def test_weights_are_held_where_a_context_can_bear_them() -> None:
    assert read_spans("(a:1e9)", "a1111") == (Span("a:1e9", 1.1),)
    assert read_spans("(a:99999)", "a1111") == (Span("a", 1000.0),)
    assert read_spans("(a:-99999)", "a1111") == (Span("a", -1000.0),)
    assert read_spans("(" * 500 + "a" + ")" * 500 + "b", "a1111") == (Span("a", 1000.0), Span("b"))


def test_and_parts_a_prompt_with_weights() -> None:
    parts = parse_prompt("a cat :1.2 AND a dog AND\na [bird:fish:3] : -.5 ").parts
    assert [part.weight for part in parts] == [1.2, 1.0, -0.5]
    assert [part.text_at(1, 10) for part in parts] == ["a cat", " a dog ", "\na bird"]
    assert parse_prompt("a SAND b ANDc").weights == (1.0,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a", 1.0)),
        ("a ", ("a ", 1.0)),
        ("a:2", ("a", 2.0)),
        (" a : +1. ", (" a", 1.0)),
        ("a:b", ("a:b", 1.0)),
        ("a:1:2", ("a:1", 2.0)),
        ("(a:1.2)", ("(a:1.2)", 1.0)),
        (":3", ("", 3.0)),
        ("a:1e3", ("a:1e3", 1.0)),
        ("a:99999", ("a", 1000.0)),
    ],
)
def test_the_weight_of_a_part_is_behind_its_last_colon(text: str, expected: tuple[str, float]) -> None:
    assert split_weight(text) == expected


def test_a_prompt_of_one_part_with_a_weight_says_so() -> None:
    (note,) = parse_prompt("a film still, 16:9").notes
    assert "':9'" in note
    assert parse_prompt("a film still, 16:9,").notes == ()


def test_in_a_negative_prompt_and_is_a_word_and_a_number_a_number() -> None:
    assert parse_prompt("a AND b:2", negative=True).parts == (Part(("a AND b:2",)),)


def test_in_a_negative_prompt_networks_are_dropped_and_said() -> None:
    prompt = parse_prompt("blur <lora:x:0.5>", negative=True)
    assert prompt.parts == (Part(("blur ",)),)
    assert prompt.networks == ()
    assert "x in the negative prompt is dropped" in prompt.notes[0]


def test_networks_are_taken_out_wherever_they_stand() -> None:
    text, calls, notes = take_networks(
        "a <lora:x:0.5>cat<lyco:y> <lora:z:0.1:0.9><lora:w:te=0.2:unet=0.3> <3 > <a:> <b>"
    )
    assert text == "a cat  <3 > <a:> <b>"
    assert calls == (
        NetworkCall("lora", "x", 0.5, 0.5),
        NetworkCall("lyco", "y", 1.0, 1.0),
        NetworkCall("lora", "z", 0.1, 0.9),
        NetworkCall("lora", "w", 0.2, 0.3),
    )
    assert notes == ()


def test_what_can_t_be_added_is_said() -> None:
    _, calls, notes = take_networks("<hypernet:a:1> <lora:b:much> <lora:c:1:1:dyn=8> <lora:d:nan>")
    assert [call.name for call in calls] == ["b", "c", "d"]
    assert [(call.text_weight, call.unet_weight) for call in calls] == [(1, 1)] * 3
    assert len(notes) == 4
    assert "hypernet" in notes[0]
    assert "'much'" in notes[1]
    assert "dyn=8" in notes[2]


def test_other_modes_know_none_of_this() -> None:
    text = "a [b:c:3] AND <lora:x:1> d:2"
    for mode in ("none", "comfy", "compel"):
        prompt = parse_prompt(text, mode)
        assert prompt.schedule(10) == [(10, (text,))]
        assert prompt.networks == ()


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("([b]:2)[b](c)", [("b", 2 / 1.1), ("b", 1 / 1.1), ("c", 1.1)]),
        ("[)(y)[b]]", [(")", 1 / 1.1), ("y", 1.0), ("b", 1.1**-2)]),
        (r"\\\(a\b:1.2\)(c:1.5)", [(r"\(ab:1.2)", 1.0), ("c", 1.5)]),
    ],
)
def test_pairs_around_text_alone_weigh_where_they_stand(text: str, spans: list[tuple[str, float]]) -> None:
    found = [(span.text, span.weight) for span in read_spans(text, "a1111") if isinstance(span, Span)]
    assert found == [(words, pytest.approx(weight)) for words, weight in spans]


@pytest.mark.parametrize("form", ["(a:{}x)", "[a:{}x]", "[a:b:{}x]", "a AND b :{}x", "{{{}x|b}}", "({}x)", "([a]:{}x)"])
def test_numbers_that_are_none_after_all_take_no_time_that_grows_with_the_square(form: str) -> None:
    """A million digits would take hours."""
    text = form.format("1" * 1_000_000)
    assert len(parse_prompt(expand_wildcards(text, 0)).parts[0].text_at(1, 10)) > 0
    for mode in ("a1111", "comfy", "compel"):
        assert read_spans(text, mode)
