"""Names of modules that a project cannot have for its own files, since what curidask needs has them.

A process has one module of a name. If a project's ``queue.py`` were that one, dask would get it too, or the project
would not get it where dask came first. So it never is: in each process of a run alike, by what the driver finds out
when the run begins.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import PathFinder

ROOTS = ("curidask", "distributed")


def may_be_taken(name: str, outside: Sequence[str]) -> bool:
    """Whether a top-level name is that of something outside of a project that others than the project import.

    Parameters
    ----------
    name : str
    outside : sequence of str
        Where to look for it.
    """
    if name in sys.builtin_module_names:
        return True
    if PathFinder.find_spec(name, outside) is None:
        return False
    return name in sys.stdlib_module_names or name in _needed()


def is_taken(name: str) -> bool:
    """Whether such a name is that of something that is there already, or that we need.

    Of the standard library those are taken that are loaded once dask, numpy and pandas are: the others Python would
    look for in the project's folder first.
    """
    return name not in sys.stdlib_module_names or name in sys.modules or name in sys.builtin_module_names


@functools.cache
def _needed() -> frozenset[str]:
    """The names that the packages bring which curidask can use, and which those need."""
    import importlib.metadata

    found: set[str] = set()
    pending = [*ROOTS]
    while pending:
        name = _normal(pending.pop())
        if name not in found:
            found.add(name)
            pending += _requirements(name)
    by_name = importlib.metadata.packages_distributions()
    return frozenset(name for name, owners in by_name.items() if found.intersection(map(_normal, owners)))


def _requirements(distribution: str) -> Iterator[str]:
    import importlib.metadata

    try:
        lines: Iterable[str] = importlib.metadata.requires(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        if distribution in ROOTS or "extra ==" not in line:
            yield re.split(r"[^\w.-]", line, maxsplit=1)[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
