"""The prompt language: what of a text is markup, and what it means. No torch; it stands by itself.

    prompt = parse_prompt("a [red:green:0.5] (apple:1.2) AND a table :0.4 <lora:sketch:0.8>")
    prompt.schedule(20)      # the texts of its parts, and until which step
    prompt.networks          # (NetworkCall(kind="lora", name="sketch", …),)
    read_windows("a red (apple:1.2)", "a1111", tokenizer).windows    # ids and weights, 77 at a time

Before that, `expand_wildcards`, `apply_styles` and `prompt_matrix` make texts of texts; `explain` says all of it to a person.
"""

from sfumato.recipe import Emphasis
from sfumato.text.prompts.emphasis import BREAK, Span, Spans
from sfumato.text.prompts.explain import explain
from sfumato.text.prompts.matrix import PromptMatrix, prompt_matrix
from sfumato.text.prompts.reading import A1111, check_emphasis, parse_prompt
from sfumato.text.prompts.styles import Style, apply_styles, parse_styles, read_styles
from sfumato.text.prompts.tree import Alternation, Change, NetworkCall, Part, Pieces, Prompt, When
from sfumato.text.prompts.wildcards import expand_wildcards, read_lists
from sfumato.text.prompts.windows import Reading, TokenSource, Window, empty_window, read_spans, read_windows

__all__ = [
    "A1111",
    "BREAK",
    "Alternation",
    "Change",
    "Emphasis",
    "NetworkCall",
    "Part",
    "Pieces",
    "Prompt",
    "PromptMatrix",
    "Reading",
    "Span",
    "Spans",
    "Style",
    "TokenSource",
    "When",
    "Window",
    "apply_styles",
    "check_emphasis",
    "empty_window",
    "expand_wildcards",
    "explain",
    "parse_prompt",
    "parse_styles",
    "prompt_matrix",
    "read_lists",
    "read_spans",
    "read_styles",
    "read_windows",
]
