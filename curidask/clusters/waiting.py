"""Waiting for workers, with an end, and with what the cluster says of those that do not come."""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from curidask.errors import ClusterError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TELL_SECONDS = 30.0
"""How often the user is told that the wait goes on."""


class Trouble(Protocol):
    """What a kind of cluster knows of workers that do not come."""

    def words(self) -> str:
        """What it says, such as the state and the error output of jobs; empty for nothing."""
        ...

    def is_final(self) -> bool:
        """Whether no worker can come any more."""
        ...


class NoWord:
    """A cluster that says nothing."""

    def words(self) -> str:
        """Nothing."""
        return ""

    def is_final(self) -> bool:
        """Never: who knows."""
        return False


def wait_for_worker(client: Any, wait_seconds: float, *, what: str, trouble: Trouble, fix: str) -> int:
    """Return how many workers there are, as soon as there is one.

    Parameters
    ----------
    client : distributed.Client
    wait_seconds : float
    what : str
        The cluster, for messages.
    trouble : Trouble
    fix : str
        What to do about workers that do not come.

    Raises
    ------
    ClusterError
        After `wait_seconds`, or when the cluster says that none can come; with what it says.
    """
    started = told = time.monotonic()
    while True:
        n_workers = _count(client)
        if n_workers:
            return n_workers
        now = time.monotonic()
        final = trouble.is_final()
        if final or now - started > wait_seconds:
            after = "started" if final else f"came within {wait_seconds:g} s"
            words = trouble.words()
            raise ClusterError(f"No worker of {what} {after}.{_indented(words)}", where=what, fix=fix)
        if now - told > TELL_SECONDS:
            told = now
            logger.warning("waiting for workers of %s%s", what, _indented(trouble.words()))
        _pause(client)


def _count(client: Any) -> int:
    try:
        return len(client.nthreads())
    except OSError:  # it is connecting again
        return 0


def _pause(client: Any) -> None:
    started = time.monotonic()
    try:
        client.wait_for_workers(1, timeout=LOOK_SECONDS)
    except OSError:  # a timeout is one too
        time.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - started)))


def _indented(words: str) -> str:
    return "".join(f"\n    {line}" for line in words.splitlines())
