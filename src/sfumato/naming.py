"""Names that a package gives and loads only when they are asked for, so that importing it does not wait for all that it has."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def loads_when_asked(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A package's `__getattr__`: each name out of the module that has it, by the modules' names; loaded once, and then the package's own.

    Raises AttributeError for another name, by which Python goes on to look for a submodule, and whatever the module raises as it is loaded.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if (home := home_of.get(name)) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
