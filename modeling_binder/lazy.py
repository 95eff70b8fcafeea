"""Import the public names of a package on first use (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_attributes(
    package: str, names_of: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions `__getattr__` and `__dir__` for a package that imports its modules on first use.

    The package must also import the names under `if TYPE_CHECKING`, for type checkers.

    Args:
        package: `__name__` of the package.
        names_of: module of the package -> public names in this module.
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
