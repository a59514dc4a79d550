"""What is true of any prompt."""

import re
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from sfumato.recipe import Emphasis
from sfumato.text.prompts import Part, Span, expand_wildcards, explain, parse_prompt, read_spans, read_windows
from sfumato.text.prompts.emphasis import HEAVIEST
from sfumato.text.prompts.networks import take_networks
from sfumato.text.prompts.schedule import parse_pieces
from sfumato.text.tokenizer import Tokenizer

CLIP = Tokenizer.bundled_clip()
MODES: tuple[Emphasis, ...] = get_args(Emphasis)
MARKUP = ["(", ")", "[", "]", ":", "|", "\\", "{", "}", "__", "$$", "<", ">", "<lora:", "BREAK", "AND", " ", "\n", ",", "+", "-", '"',
          "0.5", "3", "1.2)", ":2", "a", "red cat", "é", "🚀", "embedding:"]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(MARKUP), max_size=25).map("".join), st.text(max_size=60))
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='\\()[]:|{}_<>+-"#'), max_size=60).filter(
    lambda text: not re.search("AND|BREAK|embedding", text)
)


@given(TEXTS, st.integers(1, 30))
def test_any_text_is_a_prompt_in_any_words(text: str, steps: int) -> None:
    for mode in MODES:
        prompt = parse_prompt(text, mode)
        schedule = prompt.schedule(steps)
        assert prompt.source == text
        assert schedule[-1][0] == steps
        ends = [end for end, _ in schedule]
        assert ends == sorted(set(ends))
        assert min(ends) >= 1
        for _, texts in schedule:
            assert len(texts) == len(prompt.parts)
            for each in texts:
                assert all(abs(span.weight) <= HEAVIEST for span in read_spans(each, mode) if isinstance(span, Span))


@given(TEXTS, st.integers(1, 12), st.integers(0, 2**64))
def test_any_text_can_be_explained_and_drawn_from(text: str, steps: int, seed: int) -> None:
    for mode in MODES:
        lines = list(explain(expand_wildcards(text, seed, {"a": [text]}), mode, CLIP, steps))
        assert lines
        assert all(len(line.splitlines()) <= 1 for line in lines)


@given(TEXTS)
def test_nothing_of_a_text_is_lost_but_its_markup(text: str) -> None:
    def letters(words: str) -> str:
        return re.sub(r"[^a-zé🚀]", "", words)

    for mode in ("a1111", "comfy", "compel", "none"):
        assert letters("".join(span.text for span in read_spans(text, mode) if isinstance(span, Span))) == letters(text)


@given(PLAIN)
def test_a_text_without_markup_is_itself_in_any_words(text: str) -> None:
    for mode in MODES:
        assert [part.text_at(1, 10) for part in parse_prompt(text, mode).parts] == [text]
        ids = [i for window in read_windows(text, mode, CLIP).windows for i in window.ids[1 : window.kept + 1]]
        if mode == "comfy":  # which reads word by word
            assert ids == [i for word in text.replace("\n", " ").split(" ") for i in CLIP.token_ids(word)]
        else:
            assert ids == CLIP.token_ids(text)[: 75 if mode == "none" else None]


@given(TEXTS, st.integers(1, 20))
def test_a_change_at_the_start_is_what_comes_after_and_one_at_the_end_what_came_before(text: str, steps: int) -> None:
    whole = parse_pieces(text)
    if "[" in text or "]" in text or "(" in text or ")" in text or ":" in text or "|" in text or "\\" in text:
        return
    assert Part(parse_pieces(f"[x:{text}:0]")).schedule(steps) == [(steps, text)]
    assert Part(parse_pieces(f"[{text}:x:{steps}]")).schedule(steps) == [(steps, text)]
    assert whole == ((text,) if text else ())


@given(st.lists(PLAIN.map(str.strip).filter(bool), min_size=2, max_size=5), st.integers(1, 20))
def test_alternations_take_turns(choices: list[str], steps: int) -> None:
    part = Part(parse_pieces(f"[{'|'.join(choices)}]"))
    assert [part.text_at(step, steps) for step in range(1, steps + 1)] == [
        choices[(step - 1) % len(choices)] for step in range(1, steps + 1)
    ]


@given(TEXTS, st.integers(1, 12))
def test_a_schedule_gives_every_step_its_own_text(text: str, steps: int) -> None:
    prompt = parse_prompt(text)
    entries = prompt.schedule(steps)
    for step in range(1, steps + 1):
        texts = next(texts for end, texts in entries if step <= end)
        assert texts == tuple(part.text_at(step, steps) for part in prompt.parts)


@given(TEXTS)
def test_what_is_left_of_networks_has_none(text: str) -> None:
    rest, calls, notes = take_networks(text)
    assert len(rest) <= len(text)
    assert (rest == text) == (not calls and not notes)


@given(st.lists(st.sampled_from(["a", ",", "cat", "BREAK", "<style>", "(b:1.3)", "[c]"]), max_size=200).map(" ".join))
def test_windows_hold_all_tokens_in_their_order_with_their_weights(text: str) -> None:
    tokenizer = CLIP.with_token("<style>", ids=3)
    for mode in ("a1111", "comfy", "compel"):
        reading = read_windows(text, mode, tokenizer)
        packed = [
            (number, weight)
            for window in reading.windows
            for number, weight in list(zip(window.ids, window.weights, strict=True))[1 : window.kept + 1]
        ]
        spans = [span for span in reading.spans if isinstance(span, Span)]
        assert packed == [(number, span.weight) for span in spans for number in tokenizer.token_ids(span.text)]
        assert all(window.kept <= 75 for window in reading.windows)
