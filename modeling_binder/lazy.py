"""Import the public names of a package when they are first used (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_attributes(
    package: str, names_of: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that imports its modules on demand.

    For type checkers the package also imports the names under `if TYPE_CHECKING`.

    Args:
        package: `__name__` of the package.
        names_of: module of the package -> the names that the package takes from it.
    """
    home = {name: module for module, names in names_of.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name in names_of:  # the module itself
            return importlib.import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home, *names_of})

    return __getattr__, __dir__
