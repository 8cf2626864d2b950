"""Locks on local folders, for as long as a block runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_PATIENCE_SECONDS = 10.0


@contextmanager
def locked(open_folder: Callable[[], int]) -> Iterator[None]:
    """Hold a lock on what is opened; without one where there are no locks, or its holder hangs."""
    fd = None
    if fcntl is not None:
        with suppress(OSError):
            fd = open_folder()
    try:
        if fd is not None:
            _wait_for_lock(fd)
        yield
    finally:
        if fd is not None:
            _unlock(fd)


def _wait_for_lock(fd: int) -> None:
    give_up = time.monotonic() + LOCK_PATIENCE_SECONDS
    pause = 0.0005
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        except OSError:
            return


def _unlock(fd: int) -> None:
    # Unlocked by name, not only closed: a process that was forked meanwhile holds a copy of the descriptor.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
