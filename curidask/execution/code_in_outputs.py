"""Whether what a stage returned brings code along: then equal bytes do not mean that it does the same."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Iterable
from typing import Any

from curidask.core.code.code_identity import is_installed
from curidask.hashing import digest
from curidask.store.manifest import BROUGHT

PICKLING = ("PickleCacher", "PandasCacher")
"""Our cachers that may store more than plain data."""

_PACKAGE = __name__.partition(".")[0]


def brings_code(template: Any, value: Any) -> bool:
    """Whether another version of the project's code may load something else, out of the same bytes.

    Parameters
    ----------
    template : type or object
        The cacher, as the stage declares it. What an instance is told decides what it loads, as its code does.
    value : object
    """
    if not isinstance(template, type) or template.__module__.partition(".")[0] != _PACKAGE:
        return True
    return template.__name__ in PICKLING and _has_code(value)


def mark(code: str, contents: Iterable[str]) -> str:
    """What tells such a value from another of the same bytes.

    Parameters
    ----------
    code : str
        What stands for the code of the stage in its key, that of its cachers among it.
    contents : iterable of str
        What the stage was given, in the order of its inputs.
    """
    return digest((BROUGHT, code, list(contents)))


class _FoundError(Exception):
    """Ends a search."""


class _Search(pickle.Pickler):
    """Goes through a value as pickle does, to the first function or class of a project."""

    def reducer_override(self, obj: Any) -> Any:
        """Write a number in place of functions and classes, which need not be found by their name."""
        is_named = hasattr(obj, "__qualname__") and getattr(
            obj, "__module__", None
        )  # functions of compiled modules too
        if not is_installed(obj if is_named else type(obj)):
            raise _FoundError
        is_code = isinstance(obj, type | types.FunctionType)
        return NotImplemented if obj is int or not is_code else (int, ())


def _has_code(value: Any) -> bool:
    """Whether functions or classes of a project are in a value; also where that cannot be told."""
    try:
        _Search(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=lambda buffer: False).dump(value)
    except Exception:
        return True
    return False
