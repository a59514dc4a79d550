"""A prompt read from its text, in the words of one program or another."""

import re
from typing import get_args

from sfumato.errors import OptionError
from sfumato.recipe import Emphasis
from sfumato.text.prompts.networks import take_networks
from sfumato.text.prompts.schedule import parse_pieces
from sfumato.text.prompts.tree import Part, Prompt, plain_prompt

A1111 = ("a1111", "a1111_no_norm")
"""The modes in AUTOMATIC1111's words: they differ in what becomes of a context's mean."""

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([-+]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++))\s*")
HEAVIEST_PART = 1000.0
"""The weights of parts are held within this, up and down."""


def check_emphasis(value: object) -> Emphasis:
    """The value as a mode of emphasis. Raises OptionError for any other."""
    for known in get_args(Emphasis):
        if value == known:
            return known
    raise OptionError(f"emphasis must be one of {', '.join(get_args(Emphasis))}, not {value!r}")


def parse_prompt(text: str, emphasis: Emphasis = "a1111", *, negative: bool = False) -> Prompt:
    """Read a prompt. Any text can be read; what is no markup, or bad markup, is text.

    In AUTOMATIC1111's modes: networks, parts between ANDs with their weights (a `negative` prompt has one part, and AND is a word there),
    changes and alternations. The other modes have none of these.
    """
    if emphasis not in A1111:
        return plain_prompt(text)
    rest, networks, notes = take_networks(text)
    if negative and networks:
        names = ", ".join(call.name for call in networks)
        networks, notes = (), (*notes, f"{names} in the negative prompt is dropped: networks are called in prompts")
    written = [rest] if negative else _AND.split(rest) if "AND" in rest else [rest]
    parts: list[Part] = []
    known: dict[str, Part] = {}  # equal ones are one
    for each in written:
        if (part := known.get(each)) is None:
            body, weight = (each, 1.0) if negative else split_weight(each)
            part = known[each] = Part(parse_pieces(body), weight)
        parts.append(part)
    if len(parts) == 1 and parts[0].weight != 1:
        weight = rest[rest.rfind(":") :].strip()
        notes = (
            *notes,
            f"{weight!r} at the end is taken as the weight of the whole prompt; put a comma behind it if it is not",
        )
    return Prompt(source=text, parts=tuple(parts), networks=networks, notes=notes)


def split_weight(text: str) -> tuple[str, float]:
    """A part without the weight behind its last colon, and the weight: 1 if there is none.

    Source: the web UI's `get_multicond_prompt_list`.
    """
    colon = text.rfind(":")
    match = _WEIGHT.fullmatch(text, colon + 1) if colon >= 0 else None
    if match is None:
        return text, 1.0
    weight = float(match[1])
    return text[:colon].rstrip(), min(max(weight, -HEAVIEST_PART), HEAVIEST_PART)
