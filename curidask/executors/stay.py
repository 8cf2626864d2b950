"""A project's stay in a worker process: what its modules set up when they are imported holds for all of its stages."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from curidask.executors.package_state import own_decimal_context

P = ParamSpec("P")
T = TypeVar("T")


class Stay:
    """The context variables of a project, which numpy and decimal keep their settings in.

    dask gives each task a copy of its own: what a module sets at import would hold for the first stage alone.
    """

    def __init__(self) -> None:
        self._context = contextvars.copy_context()
        self._context.run(own_decimal_context)

    def load(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call what imports modules; one at a time."""
        return self._context.run(function, *args, **named)

    def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call what runs stages, in a copy of the context."""
        return self._context.copy().run(function, *args, **named)
