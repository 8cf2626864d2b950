"""A project's stay in a worker process: what it sets up at import holds for its stages, and goes with it."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from curidask.execution.process.logging_state import Loggers
from curidask.execution.process.process_state import KINDS, KINDS_FOR_REPORTS, Restore, own_decimal_context

P = ParamSpec("P")
T = TypeVar("T")

LOKY = ("joblib.externals.loky", "loky")
"""Under which names the pool is found that joblib keeps from call to call."""


class Stay:
    """The context variables of a project, and the process as it was before it.

    numpy and decimal keep their settings in context variables, and dask gives each task a copy of its own: what a
    module sets at import would hold for the first stage alone.

    Parameters
    ----------
    is_host : bool
        Whether the process is there for jobs alone. What is the driver's own process is nobody's to put back.
    """

    def __init__(self, *, is_host: bool) -> None:
        self._context = contextvars.copy_context()
        self._context.run(own_decimal_context)
        kinds = (*KINDS, *KINDS_FOR_REPORTS) if is_host else ()
        self._restores: list[Restore] = [kind() for kind in kinds]
        if is_host:
            self._restores.append(Loggers().restore)
        self._is_host = is_host

    def load(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call what imports modules; one at a time."""
        return self._context.run(function, *args, **named)

    def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call what runs stages, in a copy of the context."""
        return self._context.copy().run(function, *args, **named)

    def end(self) -> None:
        """Put the process back as it was, when the project's modules are forgotten, and end what its stages left."""
        if self._is_host:
            _end_children()
        for restore in self._restores:
            restore()


def _end_children() -> None:
    """End child processes, and the pools of them that libraries keep: they hold the project's modules."""
    for name in LOKY:
        pool = getattr(sys.modules.get(f"{name}.reusable_executor"), "_executor", None)
        if pool is not None:
            with contextlib.suppress(Exception):  # it is broken
                pool.shutdown(wait=True, kill_workers=True)
    if "multiprocessing.forkserver" in sys.modules:
        sys.modules["multiprocessing.forkserver"]._forkserver._stop()  # there is no public way
    import psutil

    for process in psutil.Process().children(recursive=True):
        if process.pid not in _trackers():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(1)


def _trackers() -> set[int | None]:
    """The processes that tidy up after others; without them there would be warnings."""
    names = ("multiprocessing.resource_tracker", *(f"{name}.backend.resource_tracker" for name in LOKY))
    trackers = (getattr(sys.modules.get(name), "_resource_tracker", None) for name in names)
    return {getattr(tracker, "_pid", None) for tracker in trackers}
