"""What a prompt means, said to a person: its parts, what changes at which step, the windows with their weights, and what was dropped."""

from collections.abc import Iterator
from itertools import groupby

from sfumato.recipe import Emphasis
from sfumato.text.prompts.reading import parse_prompt
from sfumato.text.prompts.tree import NetworkCall, Prompt
from sfumato.text.prompts.windows import NO_SPAN, Reading, TokenSource, read_windows

MOST_TEXTS = 24
"""Texts that are shown of a prompt that changes: one that alternates has one a step."""


def explain(
    text: str, emphasis: Emphasis, tokenizer: TokenSource, steps: int, *, negative: bool = False
) -> Iterator[str]:
    """The lines that explain a prompt, for a run of so many steps."""
    prompt = parse_prompt(text, emphasis, negative=negative)
    notes = list(prompt.notes)
    for call in prompt.networks:
        yield f"added to the model: {_visible(call.name)}, {_shares(call)}"
    schedule = prompt.schedule(steps)
    readings: dict[str, Reading] = {}
    first, shown = 1, 0
    for last, texts in schedule:
        if shown == MOST_TEXTS:
            yield f"… and {len(schedule) - shown} more changes up to step {steps}"
            break
        if len(schedule) > 1:
            yield f"steps {first}–{last}" if first < last else f"step {last}"
        for number, each in enumerate(texts):
            new = each not in readings
            if new:
                readings[each] = read_windows(each, emphasis, tokenizer)
                notes += readings[each].notes
            yield from _part(prompt, number, each, readings[each], tokenizer, new=new)
        first, shown = last + 1, shown + 1
    yield from (f"note: {_visible(note)}" for note in dict.fromkeys(notes))


def _part(
    prompt: Prompt, number: int, text: str, reading: Reading, tokenizer: TokenSource, *, new: bool
) -> Iterator[str]:
    """A part's text, and its windows unless they were shown: how many tokens have which weight, and what they read."""
    weight = prompt.parts[number].weight
    if len(prompt.parts) > 1 or weight != 1:
        yield f"  part {number + 1} of {len(prompt.parts)}, weight {weight:g}"
    if not new:
        yield f"  as above: {_visible(text)}"
        return
    for place, window in enumerate(reading.windows, start=1):
        yield f"  window {place} of {len(reading.windows)}: {window.kept} of {len(window.ids) - 2} tokens"
        stop = 0
        for span, run in groupby(window.spans):
            start, stop = stop, stop + len(list(run))
            if span != NO_SPAN:
                read = tokenizer.decode(window.ids[start:stop])
                yield f"    {window.weights[start]:<7.4g} {stop - start:>2}  {read}"


def _shares(call: NetworkCall) -> str:
    if call.text_weight == call.unet_weight:
        return f"{call.unet_weight:g} of it"
    return f"{call.unet_weight:g} of it for the U-Net, {call.text_weight:g} for the text encoder"


def _visible(text: str) -> str:
    """A text in one line, its spaces to be seen."""
    return repr(text) if text != text.strip() or not text.isprintable() else text
