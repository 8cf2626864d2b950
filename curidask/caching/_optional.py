"""What cachers for other packages share: a package is imported when it is first used."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from curidask.errors import CacheError

EXTRAS = {
    "numpy": "arrays",
    "pandas": "tables",
    "pyarrow": "tables",
    "polars": "polars",
    "lxml": "formats",
    "openpyxl": "formats",
    "tables": "formats",
}
"""The extra of curidask that brings a package."""


def load_package(name: str, user: str) -> ModuleType:
    """Import a package or one of its modules.

    Parameters
    ----------
    name : str
        Of the module.
    user : str
        What needs it, for the message.

    Raises
    ------
    CacheError
        Saying what to install, when it is not there.
    """
    require(name, user)
    return importlib.import_module(name)


def require(name: str, user: str) -> None:
    """Raise a `CacheError` that says what to install, when a package is not there; does not import it."""
    package = name.partition(".")[0]
    if not is_installed(package):
        raise CacheError(
            f"{user} needs the package {package!r}, which is not installed here.",
            fix=f"pip install 'curidask[{EXTRAS[package]}]', or: pip install {package}",
        )


def is_installed(package: str) -> bool:
    """Whether a package could be imported; does not import it."""
    return importlib.util.find_spec(package) is not None


def type_name(value: Any) -> str:
    """The type of a value for messages, with its module where that tells more."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
