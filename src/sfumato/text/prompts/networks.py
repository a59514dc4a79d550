"""`<lora:name:0.8>`: what a prompt asks to be added to the model. It is taken out of the text wherever it stands."""

import math
import re

from sfumato.text.prompts.tree import NetworkCall

ADAPTERS = frozenset({"lora", "lyco"})
"""The kinds that are a LoRA or its kin; `lyco` is the web UI's older word for some of them."""

_CALL = re.compile(r"<(\w+):([^>]+)>")


def take_networks(text: str) -> tuple[str, tuple[NetworkCall, ...], tuple[str, ...]]:
    """The text without its calls, the calls for adapters in their order, and notes on those of other kinds, which are dropped.

    `<lora:name>` is all of it, `<lora:name:0.8>` 0.8 of it, `<lora:name:0.5:0.8>` 0.5 of it for the text encoder and 0.8 for the U-Net;
    `te=` and `unet=` say the same by name. What is no number counts as 1, and is noted. Source: the web UI's `extra_networks.py` and its Lora.
    """
    last = text.rfind(">")
    if last < 0 or "<" not in text:
        return text, (), ()
    calls: list[NetworkCall] = []
    notes: list[str] = []

    known: dict[str, tuple[NetworkCall | None, list[str]]] = {}  # equal ones are read once

    def take(match: re.Match[str]) -> str:
        if (read := known.get(match[0])) is None:
            read = known[match[0]] = _read(match)
        if read[0] is not None:
            calls.append(read[0])
        notes.extend(read[1])
        return ""

    # Up to the last > only: each search for one then finds it, and none runs to the end of a long text in vain.
    return _CALL.sub(take, text[: last + 1]) + text[last + 1 :], tuple(calls), tuple(notes)


def _read(match: re.Match[str]) -> tuple[NetworkCall | None, list[str]]:
    """The call, if it is one for an adapter, and what is to be said of it."""
    kind, notes = match[1], list[str]()
    if kind in ADAPTERS:
        return _call(kind, match[2].split(":"), match[0], notes), notes
    return None, [f"{match[0]} is dropped: there is nothing of the kind {kind!r} here"]


def _call(kind: str, items: list[str], written: str, notes: list[str]) -> NetworkCall:
    named = dict(item.split("=", 1) for item in items if "=" in item)
    positional = [item for item in items if "=" not in item]
    others = [f"{name}={value}" for name, value in named.items() if name not in ("te", "unet")] + positional[3:]

    def number(value: str | None, default: float) -> float:
        if value is None:
            return default
        try:
            read = float(value)
        except ValueError:
            read = math.nan
        if not math.isfinite(read):
            notes.append(f"{written}: the weight {value!r} is not a number; 1 is taken")
            return 1.0
        return read

    text = number(named.get("te", positional[1] if len(positional) > 1 else None), 1.0)
    unet = number(named.get("unet", positional[2] if len(positional) > 2 else None), text)
    if others:
        notes.append(f"{written}: {', '.join(others)} has no effect here")
    return NetworkCall(kind, positional[0] if positional else "", text, unet, tuple(others))
