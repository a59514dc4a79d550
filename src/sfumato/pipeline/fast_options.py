"""What a call may spare at the cost of some likeness, checked, and what a recipe says of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from sfumato.engine import NOTHING_SPARED, FastOptions
from sfumato.errors import OptionError, RecipeError, UnknownNameError, UnsupportedError
from sfumato.models.merging import MOST
from sfumato.models.unet import UNet
from sfumato.pipeline.canvas import canvas_of
from sfumato.pipeline.guidance_options import options_of
from sfumato.pipeline.parts import unwrapped
from sfumato.pipeline.request import Request, check_count, check_number
from sfumato.pipeline.tiny_decoding import RECORDED
from sfumato.recipe import Recipe

Given: TypeAlias = Mapping[str, Any]
"""Values by the names of `FastOptions`, and "interval"."""

USUAL: Given = {"cache": 3, "cache_depth": 1, "merge": 0.5, "adaptive": 0.99, "interval": (0.2, 1.0)}
"""What each is where only its name is said. `docs/fast.md` says what each costs and gains."""

TOGETHER: Given = {"cache": 3, "interval": (0.2, 1.0)}
"""What `fast=True` is."""

OF_THE_NETWORK = frozenset({"cache", "cache_depth", "merge"})


def take_fast(options: dict[str, Any]) -> FastOptions:
    """Take `fast` out of a call's options: True for what is sound together, names, or values by name; None and False for nothing.

    An "interval" becomes the call's `guidance_interval`. Raises OptionError for values that can't be, UnknownNameError for names that there
    are not.
    """
    given = options.pop("fast", None)
    if isinstance(given, FastOptions):
        return given
    values = dict(_values(given))
    interval = values.pop("interval", None)
    if interval is not None:
        if options.get("guidance_interval") is not None:
            raise OptionError("guidance_interval and the interval of fast say the same; leave one of them out")
        options["guidance_interval"] = interval
    return checked(values)


def checked(values: Given) -> FastOptions:
    """The options with these values. Raises OptionError."""
    known = {
        "cache": lambda value: check_count("fast cache", value, most=1000),
        "cache_depth": lambda value: check_count("fast cache_depth", value, least=0, most=1000),
        "merge": lambda value: check_number("fast merge", value, least=0.0, most=MOST),
        "adaptive": lambda value: check_number("fast adaptive", value, least=-1.0, most=1.0),
    }
    for name in values:
        if name not in known:
            raise UnknownNameError("fast option", str(name), USUAL)
    if "cache_depth" in values and values.get("cache", 1) in (None, 1):
        raise OptionError(
            "fast cache_depth says what is not taken from a cache, and there is none; give a cache as well"
        )
    return FastOptions(**{name: known[name](value) for name, value in values.items() if value is not None})


def _values(given: object) -> Given:
    if given is None or given is False:
        return {}
    if given is True:
        return TOGETHER
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return {str(name): _usual(str(name)) if value is True else value for name, value in given.items()}
    if isinstance(given, Iterable):
        return {str(name): _usual(str(name)) for name in given}
    raise OptionError(
        f"fast must be True, names such as 'cache', or values by name such as {{'cache': 2}}, not {given!r}"
    )


def _usual(name: str) -> Any:
    if name not in USUAL:
        raise UnknownNameError("fast option", name, USUAL)
    return USUAL[name]


def fast_of(request: Request) -> FastOptions:
    """What a request may spare."""
    return NOTHING_SPARED if request.fast is None else request.fast


def check_fast(request: Request, unet: Any) -> None:
    """Raise UnsupportedError where the network, or what else is asked for, can't do with what may be spared, OptionError for a depth it has not."""
    options = fast_of(request)
    if options == NOTHING_SPARED:
        return
    network = unwrapped(unet)
    asked = [name for name, value in recorded(options).items() if name in OF_THE_NETWORK and value]
    if asked and not isinstance(network, UNet):
        raise UnsupportedError(f"a {type(network).__name__} can't be evaluated in part; leave out fast {asked[0]}")
    if options.caches and options.cache_depth >= len(network.down):
        most = len(network.down) - 1
        raise OptionError(f"fast cache_depth is {options.cache_depth}, and this U-Net's is at most {most}")
    if options.merge and not network.merging_positions(options.merge).attentions:
        raise UnsupportedError("the positions of this U-Net don't attend to each other; leave out fast merge")
    guidance = options_of(request)
    if guidance.perturbation is not None and (options.merge or options.adaptive is not None):
        name = "merge" if options.merge else "adaptive"
        raise UnsupportedError(f"fast {name} can't be combined with pag_scale; leave out one of them")
    if canvas_of(request).tile is not None and (options.caches or options.adaptive is not None):
        name = "cache" if options.caches else "adaptive"
        raise UnsupportedError(f"fast {name} can't be combined with tile: what is remembered is of one whole picture")


def fast_notes(request: Request) -> list[str]:
    """What has to be said of options that do nothing."""
    options = fast_of(request)
    if options.adaptive is not None and not request.guided:
        return ["fast adaptive does nothing: there is no guidance"]
    return []


def recorded(options: FastOptions) -> dict[str, Any]:
    """What a recipe says: the options that spare something, by their names."""
    said = {name: value for name, value in asdict(options).items() if value != getattr(NOTHING_SPARED, name)}
    if options.caches:
        said["cache_depth"] = options.cache_depth
    else:
        said.pop("cache_depth", None)
    return said


def fast_of_recipe(recipe: Recipe) -> FastOptions:
    """The options that a recipe says. Raises RecipeError for one that is unknown, OptionError for values that can't be."""
    try:
        return checked({name: value for name, value in recipe.fast.items() if name != RECORDED})
    except UnknownNameError as error:
        raise RecipeError(
            f"the recipe says {error.name!r} of what was spared, which is unknown; a newer Sfumato may have written it"
        ) from error
