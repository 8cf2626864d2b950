"""Sessions that nobody closed end when the script does, before Python takes away what they work with."""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Session(Protocol):
    """What is to be closed."""

    def close(self, *, status: str = "done") -> None:
        """End it, with what became of it."""
        ...


_open: WeakSet[Session] = WeakSet()


def close_at_exit(session: Session) -> None:
    """Have a session closed when the interpreter ends, unless it is gone by then."""
    _register()
    _open.add(session)


@cache
def _register() -> None:
    # To finish what the session was asked for may need new workers. `atexit` comes too late for that: no thread pool
    # takes work any more then, and dask has ended its clients. What was registered last is called first, so the
    # pools' own ending must be known already.
    import concurrent.futures.thread  # noqa: F401

    os.register_at_fork(after_in_child=_open.clear)  # multiprocessing ends a child's threads in the same way
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # the standard library's own way for its pools


def _close_all() -> None:
    for session in list(_open):
        session.close(status=_status())


def _status() -> str:
    """What became of the script: an error that ended it is known to the interpreter."""
    error = getattr(sys, "last_value", None)
    if error is None or hasattr(sys, "ps1"):  # who types goes on after an error
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
