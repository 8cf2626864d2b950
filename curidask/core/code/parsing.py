"""Python source as a tree, past a fault of CPython.

CPython 3.11 counts the depth of a tree that it makes in one place for all threads and for calls within calls (a
finalizer that formats a traceback is one). When two meet, the one that ends second raises a SystemError about
"recursion depth mismatch", though its tree is right. The next attempt succeeds.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 10


def parse(source: str | bytes) -> ast.Module:
    """The tree of a module's source; see `ast.parse`."""
    return counted_again(lambda: ast.parse(source))


def counted_again(make: Callable[[], T]) -> T:
    """What a function gives that makes such trees, called again after a wrong count."""
    for _ in range(ATTEMPTS):
        try:
            return make()
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return make()
