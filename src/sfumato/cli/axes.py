"""The axes of a grid: `steps:10,20,50`, `sampler:Euler,DPM++ 2M`, `prompt:apple=pear,plum`."""

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sfumato.cli.adapters import parse_lora
from sfumato.cli.fields import PATHS, Field, find_field
from sfumato.errors import OptionError, PromptError

if TYPE_CHECKING:
    # At run time imported where they are used: --help need not wait for a tokenizer.
    from sfumato.text.prompts import PromptMatrix

MOST = 1000
"""Values of one axis."""

SEARCHES = ("s/r", "prompt s/r", "prompt-s/r", "search")
WEIGHT = "lora-weight"
_WEIGHS = re.compile(r"lora[ _-]weight(?:\s+(.+))?", re.IGNORECASE)

_AXIS = re.compile(r"\s*([xyz])\s*=\s*([\w.\- /]+?)\s*:(.*)", re.DOTALL | re.IGNORECASE)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(
    rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*([+-]\s*{_NUMBER})\s*\)|:\s*({_NUMBER})|\[\s*(\d{{1,4}})\s*\])?\s*"
)

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """One place on an axis: how it is labelled, and what it makes of the options of a picture."""

    label: str
    apply: Callable[[Options], Options]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """What varies along one side of a grid.

    `said` is how it was written; `varies` are the fields that it sets; `replaces` says whether it changes words of what others set.
    """

    title: str
    values: tuple[Value, ...]
    said: str
    varies: tuple[str, ...]
    replaces: bool = False


def take_axes(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The axes among the words of the command, by their letters, and the other words. Raises OptionError for two of a letter."""
    axes: dict[str, str] = {}
    others: list[str] = []
    for word in words:
        match = _AXIS.fullmatch(word)
        if match is None:
            others.append(word)
            continue
        letter = match[1].lower()
        if letter in axes:
            raise OptionError(f"there are two axes {letter}=; a grid has one x, one y and one z")
        axes[letter] = f"{match[2]}:{match[3]}"
    return axes, others


def parse_axis(said: str, base: Options) -> Axis:
    """The axis that `NAME:VALUES` says, for a grid of pictures with these options.

    Raises UnknownNameError for what is no field, OptionError for values that it can't have, PromptError for words that no prompt has.
    """
    name, _, listed = said.partition(":")
    flat = " ".join(name.lower().split())
    if flat in SEARCHES:
        return _replacing(said, "prompt S/R", listed, base)
    weight = _WEIGHS.fullmatch(name.strip())
    if weight is not None:
        return _weighing(said, weight[1], listed, base)
    field = find_field(name, "axis", WEIGHT, "S/R")
    if field.name == "prompt" and "=" in (_listed(listed) or [""])[0]:
        return _replacing(said, "prompt", listed, base)
    texts = [text for part in _listed(listed) for text in ([part] if not field.is_number else _ranged(part, field))]
    values = tuple(Value(_label(field, text), _setting(field.name, field.read(text))) for text in texts)
    return Axis(title=field.title, values=_some(values, said), said=said, varies=(field.name,))


def sets(said: str) -> str | None:
    """The field that an axis sets as a whole, by its name; None for one that replaces words, or weighs a LoRA.

    Raises UnknownNameError for what is no field.
    """
    name, _, listed = said.partition(":")
    if " ".join(name.lower().split()) in SEARCHES or _WEIGHS.fullmatch(name.strip()):
        return None
    field = find_field(name, "axis", WEIGHT, "S/R")
    return None if field.name == "prompt" and "=" in (_listed(listed) or [""])[0] else field.name


def matrix_axes(matrix: "PromptMatrix") -> dict[str, Axis]:
    """The two sides of a prompt matrix: combinations of the first half of its parts, and of the others."""
    from sfumato.text.prompts import PromptMatrix

    half = -(-len(matrix.parts) // 2)
    sides = {"x": matrix.parts[:half], "y": matrix.parts[half:]}
    return {
        letter: Axis(
            title="with",
            values=tuple(_adding(PromptMatrix(base="", parts=parts).chosen(bits)) for bits in range(2 ** len(parts))),
            said="",
            varies=("prompt",),
        )
        for letter, parts in sides.items()
        if parts
    }


def _adding(parts: tuple[str, ...]) -> Value:
    from sfumato.text.prompts.matrix import joined

    return Value(
        ", ".join(parts) or "none",
        lambda options: {**options, "prompt": joined(options["prompt"], parts)},
    )


def _setting(name: str, value: Any) -> Callable[[Options], Options]:
    return lambda options: {**options, name: value}


def _replacing(said: str, title: str, listed: str, base: Options) -> Axis:
    """Words of the prompts that others stand for: `apple=pear,plum`, or the web UI's `apple,pear,plum`, whose first is left as it is."""
    words = _listed(listed)
    search, equals, first = words[0].partition("=") if words else ("", "", "")
    search = search.strip() if equals else words[0] if words else ""
    replacements = [first.strip(), *words[1:]] if equals else words
    if not search:
        raise OptionError(f"the axis {said!r} says no words to search for; write prompt:apple=pear,plum")
    texts = [text for name in ("prompt", "negative", "hires_prompt") if (text := base.get(name))]
    if base["prompt"] and not any(search in text for text in texts):
        raise PromptError(f"the prompt does not have {search!r}, which the axis {said!r} is to replace")

    def replacing(word: str) -> Callable[[Options], Options]:
        def apply(options: Options) -> Options:
            changed = {
                name: options[name].replace(search, word)
                for name in ("prompt", "negative", "hires_prompt")
                if options.get(name)
            }
            return {**options, **changed}

        return apply

    values = tuple(Value(word or f"no {search}", replacing(word)) for word in replacements)
    return Axis(title=title, values=_some(values, said), said=said, varies=("prompt",), replaces=True)


def _weighing(said: str, name: str | None, listed: str, base: Options) -> Axis:
    """The weight of a LoRA that is given with --lora: of the only one, or of that whose file has the name."""
    loras = [parse_lora(text) for text in base.get("lora") or ()]
    stems = [lora.path.stem for lora in loras]
    if not loras or (name is None and len(loras) > 1) or (name is not None and name not in stems):
        have = ", ".join(stems) or "none"
        raise OptionError(
            f"the axis {said!r} weighs a LoRA of --lora FILE (given: {have}); of several, name one: lora-weight NAME:0,0.5,1"
        )
    place = 0 if name is None else stems.index(name)
    number = Field(name=WEIGHT, kind=float, several=False, default=None)

    def weighing(weight: float) -> Callable[[Options], Options]:
        def apply(options: Options) -> Options:
            texts = list(options["lora"])
            texts[place] = f"{loras[place].path}:{weight:g}"
            return {**options, "lora": texts}

        return apply

    texts = [text for part in _listed(listed) for text in _ranged(part, number)]
    values = tuple(Value(text, weighing(number.read(text))) for text in texts)
    return Axis(title=f"weight of {stems[place]}", values=_some(values, said), said=said, varies=(WEIGHT,))


def _some(values: tuple[Value, ...], said: str) -> tuple[Value, ...]:
    if not 1 <= len(values) <= MOST:
        raise OptionError(f"the axis {said[:60]!r} has {len(values):,} values; expected 1 to {MOST}")
    return values


def _listed(text: str) -> list[str]:
    """The values between commas, quoted as in CSV where they hold one."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise OptionError(f"the values {text!r} can't be read as comma-separated values ({error})") from error
    return [value.strip() for row in rows for value in row]


def _ranged(text: str, field: Field) -> list[str]:
    """The numbers of `10-50:10`, `1-2 (+0.25)` or `1-10 [4]`, which are so far apart, or so many; any other text is itself."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return [text]
    first, last = Decimal(match[1]), Decimal(match[2])
    if match[5]:
        count = int(match[5])
        numbers = [first + (last - first) * place / max(count - 1, 1) for place in range(count)]
    else:
        step = abs(Decimal((match[3] or match[4] or "1").replace(" ", "")))
        falls = last < first
        if step == 0 or (match[3] and match[3].startswith("-") != falls):
            raise OptionError(f"the range {text!r} never comes from {match[1]} to {match[2]}; change its step")
        count = int(abs(last - first) / step) + 1
        numbers = [first + (-step if falls else step) * place for place in range(min(count, MOST + 1))]
    if field.kind is int and match[5]:
        numbers = [Decimal(round(number)) for number in numbers]
    return [_written(number) for number in numbers]


def _written(number: Decimal) -> str:
    """A number in digits, whole ones to the last."""
    whole = number == number.to_integral_value()
    return str(int(number)) if whole else f"{round(number, 10).normalize():f}"


def _label(field: Field, text: str) -> str:
    """A value as a label: files by their names alone."""
    shown = text.replace("\\", "/").rstrip("/").rpartition("/")[2] if field.name in PATHS else text
    return shown.strip() or "none"
