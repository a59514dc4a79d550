"""What a command is told of guidance beside its scale, as options of a call."""

from collections.abc import Sequence
from typing import Any

from sfumato.errors import OptionError


def guidance_options(
    *,
    rescale: float | None,
    interval: str | None,
    pag_scale: float | None,
    pag_adaptive: float | None,
    pag_layers: Sequence[str] | None,
    freeu: str | None,
) -> dict[str, Any]:
    """The options of a call, those alone that were given. Raises OptionError for numbers that are none, and layers without a scale."""
    if pag_scale is None and (pag_adaptive is not None or pag_layers):
        raise OptionError(f"{'--pag-layers' if pag_layers else '--pag-adaptive'} needs --pag-scale, which is not given")
    options = {
        "guidance_rescale": rescale,
        "guidance_interval": None if interval is None else _numbers("--guidance-interval", interval, "START,END"),
        "pag_scale": pag_scale,
        "pag_adaptive_scale": pag_adaptive,
        "pag_applied_layers": list(pag_layers) if pag_layers else None,
        "freeu": None if freeu is None else _numbers("--freeu", freeu, "S1,S2,B1,B2"),
    }
    return {name: value for name, value in options.items() if value is not None}


def _numbers(option: str, text: str, form: str) -> list[float]:
    """The numbers of a text like `form`. Raises OptionError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(form.split(",")):
        raise OptionError(f"{option} is {text!r}; expected {form}, {len(form.split(','))} numbers with commas between")
    return numbers
