"""Sessions that nobody closed end when the script does, before Python takes away what they work with."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Session(Protocol):
    """What is to be closed."""

    def close(self, *, status: str = "done") -> None:
        """End it, with what became of it."""
        ...


_open: WeakSet[Session] = WeakSet()
_abandoned: list[Session] = []
"""To which nothing leads any more, as to those whose name a notebook has given to another."""


def close_at_exit(session: Session) -> None:
    """Have a session closed when the interpreter ends, unless it is gone by then."""
    _register()
    _open.add(session)


class Ending:
    """What is to be done when the interpreter ends, of a session that was closed before."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def close(self, *, status: str = "done") -> None:
        """Do it."""
        self._end()


def close_later(session: Session) -> None:
    """Have a session closed that is being collected: to wait for its stages now would stop whatever is going on."""
    _abandoned.append(session)


def close_abandoned() -> None:
    """Close the sessions that were collected meanwhile."""
    while _abandoned:
        _abandoned.pop().close()


@cache
def _register() -> None:
    # To finish what the session was asked for may need new workers. `atexit` comes too late for that: no thread pool
    # takes work any more then, and dask has ended its clients. What was registered last is called first, so the
    # pools' own ending must be known already.
    import concurrent.futures.thread  # noqa: F401

    os.register_at_fork(after_in_child=_forget)  # multiprocessing ends a child's threads in the same way
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # the standard library's own way for its pools


def _forget() -> None:
    _open.clear()
    _abandoned.clear()


def _close_all() -> None:
    with ExitStack() as all_of_them:
        for session in [*_open, *_abandoned]:
            all_of_them.callback(session.close, status=_status())


def _status() -> str:
    """What became of the script: an error that ended it is known to the interpreter."""
    error = getattr(sys, "last_value", None)
    if error is None or hasattr(sys, "ps1"):  # who types goes on after an error
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
