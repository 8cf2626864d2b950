"""Keyword arguments that cachers hand on to what pandas and polars write and read with: a typo is an error."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from curidask.caching._optional import is_installed, load_package
from curidask.core.keywords import check_keywords
from curidask.errors import UnknownKeywordError


def check_arguments(to_args: Collection[str], read_args: Collection[str], method: str, label: str) -> None:
    """Refuse what pandas does not take, where its functions name all that they take.

    Parameters
    ----------
    to_args, read_args : collection of str
        The names.
    method : str
        What follows ``to_`` and ``read_`` in the names of its functions.
    label : str
        The cacher, for the message.

    Raises
    ------
    UnknownKeywordError
        Naming the near one.
    """
    for given, names, function in (
        (to_args, "to_args", f"DataFrame.to_{method}"),
        (read_args, "read_args", f"read_{method}"),
    ):
        if given and is_installed("pandas"):  # else whoever uses the cacher is told so
            taken = _taken(function)
            if taken is not None:
                check_keywords(given, taken, f"pandas.{function}(), for which `{names}` of {label} is,")


@cache
def _taken(name: str) -> frozenset[str] | None:
    """The keywords of a function of pandas beside the path; None when it takes any."""
    function: Any = load_package("pandas", "")
    for part in name.split("."):
        function = getattr(function, part)
    _, *parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters[1 if "." in name else 0 :])


@contextmanager
def telling_of_typos(names: str, label: str) -> Iterator[None]:
    """Say of a keyword that nobody takes where it comes from.

    Parameters
    ----------
    names : str
        The argument of the cacher that holds what is handed on.
    label : str
        The cacher.

    Raises
    ------
    UnknownKeywordError
    """
    try:
        yield
    except TypeError as error:
        if "keyword" not in str(error):
            raise
        fix = f"correct `{names}`, which is handed on as it is"
        raise UnknownKeywordError(str(error), where=f"`{names}` of {label}", fix=fix) from error
